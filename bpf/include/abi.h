/* SPDX-License-Identifier: GPL-2.0-or-later OR Apache-2.0 */
/*
 * What the kernel side hands to the agent: the frame all our ring records share.
 *
 * A record is a header, the fixed part of its type, and one variable part with u16 lengths in the
 * fixed part. All integers are in host byte order; every struct is a multiple of 8 bytes and has
 * no implicit padding. Type numbers are append-only across all programs: 1-15 process, 16-31
 * network, 48-63 names (dns.bpf.c), 64-79 system calls (syscall_abi.h).
 */
#ifndef YINGLONG_ABI_H
#define YINGLONG_ABI_H

enum record_type {
	RECORD_EXEC = 1,
	RECORD_FORK = 2,
	RECORD_EXIT = 3,
	RECORD_END = 4,
	RECORD_GROUP = 5,
	/* 16 and up: network.bpf.c; 48 and up: dns.bpf.c; 64 and up: syscall_abi.h */
};

/*
 * First 24 bytes of every record.
 *
 * seq counts, from 1, the records of this program family that this CPU tried to send. It is taken
 * whether or not the record then fits the ring, so a gap is exactly what a full ring cost. It is
 * counted per CPU because atomic operations that return a value need Linux 5.12, and 5.10 counts.
 */
struct record_header {
	__u64 seq;
	__u64 ts_boot_ns;
	__u16 type;
	__u16 cpu;
	__u32 size; /* of the whole record, header included */
};

#endif
