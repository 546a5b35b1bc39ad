/* SPDX-License-Identifier: GPL-2.0-or-later OR Apache-2.0 */
/*
 * When the reader is woken. For programs that write a map named `ring`; how often and how full it
 * may get (WAKE_PERIOD_NS, WAKE_MINIMUM_NS, WAKE_BYTES) is theirs to define before.
 */
#ifndef YINGLONG_WAKE_H
#define YINGLONG_WAKE_H

static volatile __u64 last_wake_ns;

static __always_inline __u64 wake_flag(__u64 now)
{
	__u64 since = now - last_wake_ns;

	if (since < WAKE_MINIMUM_NS ||
	    (since < WAKE_PERIOD_NS && bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) < WAKE_BYTES))
		return BPF_RB_NO_WAKEUP;
	last_wake_ns = now;
	return BPF_RB_FORCE_WAKEUP;
}

#endif
