/* SPDX-License-Identifier: GPL-2.0-or-later OR Apache-2.0 */
/* Records of process.bpf.c; read by crates/sensor-linux/src/process/record.rs. */
#ifndef YINGLONG_PROCESS_ABI_H
#define YINGLONG_PROCESS_ABI_H

#include "abi.h"

/* The contract keeps command lines of at least 32 KiB. */
#define ARGS_MAX 32768
#define ENV_MAX 8192
/* PATH_MAX of the kernel, for each of the three paths. */
#define PATH_SPACE 4096
#define DATA_MAX (3 * PATH_SPACE + ARGS_MAX + ENV_MAX)

enum exec_flag {
	/* A part is shorter than the real one. */
	EXEC_PATH_CUT = 1,
	EXEC_ARGS_CUT = 2,
	EXEC_ENV_CUT = 4,
	/* The memory was not resident: the agent may still read it from /proc. */
	EXEC_ARGS_MISSING = 8,
	/* filename names a script (or another file with a handler) that the image interprets. */
	EXEC_SCRIPT = 16,
	/* The image is a set-user-id or set-group-id file and changed credentials. */
	EXEC_SETUID = 32,
};

/*
 * An execution, from the kernel's point of no return.
 *
 * Behind it follow, without gaps: image path, working directory (both as NUL-terminated names, leaf
 * first, root last), file name as given to execve, argument block, environment block.
 */
struct exec_record {
	struct record_header header;
	__u64 start_boottime_ns;
	__u64 parent_start_boottime_ns;
	__u64 cgroup_id;
	__u64 inode;
	/* With inode and device, which content was executed: ctime moves with every change. */
	__u64 image_bytes;
	__s64 image_ctime_secs; /* 0: this kernel does not say */
	__u32 image_ctime_nanos;
	__u32 group_1; /* see SETTING_VERSION_1 */
	__u32 device;
	__u32 nlink;
	__u32 pid;
	__u32 ppid;
	__u32 uid;
	__u32 euid;
	__u32 gid;
	__u32 egid;
	__u32 loginuid;
	__u32 session;
	__u32 flags;
	__u32 args_len;
	__u16 env_len;
	__u16 path_len;
	__u16 cwd_len;
	__u16 filename_len;
	char comm[16];
	char parent_comm[16];
	char tty[16];
};

/* A new process; threads are not reported. */
struct fork_record {
	struct record_header header;
	__u64 start_boottime_ns;
	__u64 parent_start_boottime_ns;
	__u32 pid;
	__u32 ppid;
	__u32 uid;
	__u32 reserved;
	char comm[16];
};

/* The last thread of a process ended. */
struct exit_record {
	struct record_header header;
	__u64 start_boottime_ns;
	__u32 pid;
	__u32 reserved;
};

/* The same, sent in its place when the end is to be reported as an event. */
struct end_record {
	struct record_header header;
	__u64 start_boottime_ns;
	__u64 cgroup_id;
	/* Of all threads. By ticks of the clock, and what the scheduler counted exactly. */
	__u64 user_ns;
	__u64 system_ns;
	__u64 runtime_ns;
	__u64 max_rss_pages;
	__u32 pid;
	__u32 ppid; /* at the end, not at the start */
	__u32 uid;
	__u32 status; /* as wait(2) tells it */
	char comm[16];
	__u32 group_1; /* see SETTING_VERSION_1 */
	__u32 reserved;
};

/*
 * A control group was made. A container that ends at once has gone with its group before anybody asks
 * what the group of its processes was. The path follows, from the root of its hierarchy.
 */
struct group_record {
	struct record_header header;
	__u64 id;
	__u32 hierarchy; /* number of it, 0 for version 2 */
	__u16 path_len;
	__u16 reserved;
};

/* Bits of the map `settings`. */
enum process_setting {
	/* Report every end; otherwise only those by a signal that tells of a fault. */
	SETTING_ALL_ENDS = 1,
	/*
	 * There are hierarchies of version 1: tell the group in that of pids as well, by the lower half of
	 * its id, which is the inode's number there.
	 */
	SETTING_VERSION_1 = 2,
};

/* Value of the map `counters`, one per CPU; arrays are indexed by record type. */
struct process_counters {
	__u64 seq;
	__u64 tried[8];
	/* The ring was full. */
	__u64 dropped[8];
	/* The ring was crowded, and the group had its share (share.h). */
	__u64 shed[8];
};

_Static_assert(sizeof(struct record_header) == 24, "abi");
_Static_assert(sizeof(struct exec_record) == 184, "abi");
_Static_assert(sizeof(struct fork_record) == 72, "abi");
_Static_assert(sizeof(struct exit_record) == 40, "abi");
_Static_assert(sizeof(struct end_record) == 112, "abi");
_Static_assert(sizeof(struct group_record) == 40, "abi");

#endif
