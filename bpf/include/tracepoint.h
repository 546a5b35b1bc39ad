/* SPDX-License-Identifier: GPL-2.0-or-later OR Apache-2.0 */
/*
 * How a program is attached to a tracepoint. Typed tracepoints, the usual way, need type information
 * in the kernel itself. A second object is compiled for kernels that have none (RAW_TRACEPOINTS) and
 * relocated with a file's; its arguments are the same, but may only be read with BPF_CORE_READ.
 */
#ifndef YINGLONG_TRACEPOINT_H
#define YINGLONG_TRACEPOINT_H

#ifdef RAW_TRACEPOINTS
#define TRACEPOINT "raw_tp/"
#else
#define TRACEPOINT "tp_btf/"
#endif

#endif
