/* SPDX-License-Identifier: GPL-2.0-or-later OR Apache-2.0 */
/* Records of syscall.bpf.c; read by crates/sensor-linux/src/syscall/record.rs. */
#ifndef YINGLONG_SYSCALL_ABI_H
#define YINGLONG_SYSCALL_ABI_H

#include "abi.h"

/* After the types of processes (1-15) and connections (16-31). */
#define RECORD_SYSCALL 64

/* Texts of a call: paths, names. Longer ones are cut, and say so. */
#define TEXT_MAX 512
#define IMAGE_MAX 2048
#define COMMAND_MAX 1024
#define SYSCALL_DATA_MAX (IMAGE_MAX + COMMAND_MAX + 3 * TEXT_MAX)

/*
 * What a number of a system call means. The agent fills the tables of numbers, so that nothing here
 * depends on the architecture. Append-only.
 */
enum watched_call {
	CALL_NONE = 0,
	CALL_PTRACE = 1,
	CALL_PROCESS_VM_WRITEV = 2,
	CALL_INIT_MODULE = 3,
	CALL_FINIT_MODULE = 4,
	CALL_DELETE_MODULE = 5,
	CALL_BPF = 6,
	CALL_MOUNT = 7,
	CALL_UMOUNT2 = 8,
	CALL_MOVE_MOUNT = 9,
	CALL_PIVOT_ROOT = 10,
	CALL_UNSHARE = 11,
	CALL_SETNS = 12,
	CALL_SETUID = 13,
	CALL_SETREUID = 14,
	CALL_SETRESUID = 15,
	CALL_SETGID = 16,
	CALL_SETREGID = 17,
	CALL_SETRESGID = 18,
	CALL_MEMFD_CREATE = 19,
	CALL_KILL = 20,
	CALL_TKILL = 21,
	CALL_TGKILL = 22,
	CALL_PIDFD_SEND_SIGNAL = 23,
	CALL_RT_SIGQUEUEINFO = 24,
	CALL_RT_TGSIGQUEUEINFO = 25,
	CALL_EXECVE = 26,
	CALL_EXECVEAT = 27,
};

enum syscall_flag {
	SYSCALL_IMAGE_CUT = 1,
	/* A text was longer than TEXT_MAX. */
	SYSCALL_TEXT_CUT = 2,
	/* A text could not be read: a bad pointer, or memory that is not there. */
	SYSCALL_TEXT_MISSING = 4,
	SYSCALL_COMMAND_CUT = 8,
	/* The numbers of processes in the arguments are those of a process namespace of its own. */
	SYSCALL_OWN_PIDS = 16,
	/* The interface for 32-bit programs. */
	SYSCALL_COMPAT = 32,
	/* The descriptor given is a namespace. */
	SYSCALL_NAMESPACE = 64,
};

/*
 * A finished call. Behind it follow, without gaps: path of the image (NUL-terminated names, leaf
 * first), command line, and the three texts of the call, each with its NUL.
 */
struct syscall_record {
	struct record_header header;
	__u64 start_boottime_ns;
	__u64 parent_start_boottime_ns;
	__u64 cgroup_id;
	__u64 args[5];
	__s64 ret;
	/* Inode behind the descriptor given. */
	__u64 inode;
	__u32 call;
	__u32 flags;
	__u32 pid;
	__u32 ppid;
	/* Before the call. */
	__u32 uid;
	__u32 euid;
	__u32 gid;
	__u32 egid;
	__u32 new_euid;
	__u32 new_egid;
	__u32 loginuid;
	__u32 session;
	/* Process behind the descriptor given, 0 when there is none. */
	__u32 target_pid;
	/* CLONE_NEW* bit of the namespace given. */
	__u32 namespace_type;
	/* CLONE_NEW* bits of namespaces of its own that were given up for those of process 1. */
	__u32 to_init;
	__u16 image_len;
	__u16 command_len;
	__u16 text_len[3];
	__u16 reserved;
	char comm[16];
	char parent_comm[16];
	char tty[16];
};

/* Value of the map `counters`, one per CPU. */
struct syscall_counters {
	__u64 seq;
	__u64 tried;
	__u64 dropped;
	/* Executions of files that do not exist: what a look along PATH makes. */
	__u64 not_found;
	/* The ring was crowded, and the group had its share (share.h). */
	__u64 shed;
};

enum syscall_setting {
	SETTING_ON = 1,
	/* Native calls come through the programs for all calls. */
	SETTING_RAW = 2,
	/* Calls of 32-bit programs are told. */
	SETTING_COMPAT = 4,
};

_Static_assert(sizeof(struct syscall_record) == 224, "abi");

#endif
