// SPDX-License-Identifier: GPL-2.0-or-later OR Apache-2.0
/*
 * Executions, new processes and ended ones, and control groups that are made.
 *
 * Only tracepoints, which every supported kernel has (5.10 and later) and which need neither kprobes
 * nor trampolines. Nothing is filtered here but the agent's own activity.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "process_abi.h"
#include "tracepoint.h"

/* The kernel has no name for our choice of licences; GPL is one of the two. */
char LICENSE[] SEC("license") = "GPL";

/* Deeper paths are cut, and say so. PATH_MAX allows more, real file systems do not have them. */
#define PATH_LEVELS 64
#define NAME_SPACE 256

/* Wake-ups cost more than the rest of a program, so the reader gets at most one per period... */
#define WAKE_PERIOD_NS 50000000ULL
/* ...except when the ring fills quickly. */
#define WAKE_BYTES (1 << 20)
#define WAKE_MINIMUM_NS 1000000ULL

/* Signals the kernel sends for a fault of the program, and that of abort(3): ILL, TRAP, ABRT, BUS,
 * FPE, SEGV and SYS (system call filters). */
#define FAULT_SIGNALS (1U << 4 | 1U << 5 | 1U << 6 | 1U << 7 | 1U << 8 | 1U << 11 | 1U << 31)
#define SIGNAL_GROUP_EXIT 4
#define PF_KTHREAD 0x200000
/* Linux 6.13 keeps a flag in the nanoseconds. */
#define CTIME_QUERIED (1U << 31)

#define S_ISUID 04000
#define S_ISGID 02000
#define S_IXGRP 00010

/* Where the time of the last change is, by kernel. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct timespec64 {
	s64 tv_sec;
	long tv_nsec;
};
struct inode___5_10 {
	struct timespec64 i_ctime;
};
struct inode___6_6 {
	struct timespec64 __i_ctime;
};
struct inode___6_11 {
	s64 i_ctime_sec;
	u32 i_ctime_nsec;
};
#pragma clang attribute pop

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 << 20);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct process_counters);
} counters SEC(".maps");

/* Processes whose executions, and whose children's, are not reported: the agent's own. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u8);
} excluded SEC(".maps");

/* Bits of process_setting. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} settings SEC(".maps");

struct scratch {
	struct exec_record record;
	char data[DATA_MAX];
	/* Kept in memory: the verifier then forgets its range, and does not follow every value. */
	__u32 used;
	__u32 cut;
};

/*
 * One per possible CPU (set by the loader). A per-CPU map cannot hold values this large; programs
 * of a tracepoint run with preemption disabled, so the CPU number protects the entry as well.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

#define SHARE_RING ring

#include "include/wake.h"
#include "include/path.h"
#include "include/share.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct cgroup_root___process {
	int hierarchy_id;
};
struct cgroup___process {
	struct kernfs_node___share *kn;
	struct cgroup_root___process *root;
};
struct css_set___process {
	struct cgroup_subsys_state___share *subsys[1];
};
struct task_struct___process {
	struct css_set___process *cgroups;
};
#pragma clang attribute pop

/* A kernel may be without this controller, and the number differs by what it has. */
enum cgroup_subsys_id___process {
	pids_cgrp_id___process = 0x7fffffff,
};

static __always_inline bool is_set(__u32 setting)
{
	__u32 zero = 0;
	__u32 *bits = bpf_map_lookup_elem(&settings, &zero);

	return bits && (*bits & setting);
}

/* The group of a task in the hierarchy of pids, if it is one of version 1. */
static __always_inline __u32 group_of_version_1(struct task_struct *current_task)
{
	struct task_struct___process *task = (void *)current_task;
	struct cgroup_subsys_state___share *state = NULL;
	struct cgroup___share *group;
	void *set;

	if (!is_set(SETTING_VERSION_1) || !bpf_core_field_exists(task->cgroups) ||
	    !bpf_core_enum_value_exists(enum cgroup_subsys_id___process, pids_cgrp_id___process))
		return 0;
	set = BPF_CORE_READ(task, cgroups);
	bpf_probe_read_kernel(&state, sizeof(state),
			      set + bpf_core_field_offset(struct css_set___process, subsys) +
				      sizeof(void *) *
					      bpf_core_enum_value(enum cgroup_subsys_id___process,
								  pids_cgrp_id___process));
	group = BPF_CORE_READ(state, cgroup);
	return BPF_CORE_READ(group, kn, id);
}

static __always_inline struct process_counters *begin(struct record_header *header, __u16 type)
{
	__u32 zero = 0;
	struct process_counters *counts = bpf_map_lookup_elem(&counters, &zero);

	if (!counts)
		return NULL;
	counts->tried[type & 7]++;
	header->seq = ++counts->seq;
	header->ts_boot_ns = bpf_ktime_get_boot_ns();
	header->type = type;
	header->cpu = bpf_get_smp_processor_id();
	return counts;
}

/* Appends up to limit bytes of the current process; returns how many. */
static __always_inline __u32 put_user(struct scratch *s, unsigned long from, __u64 length,
				      __u32 limit)
{
	__u32 at = s->used;

	asm volatile("" : "+r"(length));
	if (length > limit)
		length = limit;
	if (at > DATA_MAX - limit)
		return 0;
	if (bpf_probe_read_user(&s->data[at], length, (void *)from))
		return 0;
	s->used = at + length;
	return length;
}

static __always_inline bool changes_identity(struct linux_binprm *bprm, umode_t mode)
{
	if (!BPF_CORE_READ_BITFIELD_PROBED(bprm, secureexec))
		return false;
	return (mode & S_ISUID) || (mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP);
}

/* What tells the content of a file from any other the file ever has. */
static __always_inline void put_version(struct exec_record *record, struct inode *inode)
{
	struct inode___5_10 *old = (void *)inode;
	struct inode___6_6 *private = (void *)inode;
	struct inode___6_11 *split = (void *)inode;

	record->image_bytes = BPF_CORE_READ(inode, i_size);
	record->image_ctime_secs = 0;
	record->image_ctime_nanos = 0;
	if (bpf_core_field_exists(split->i_ctime_sec)) {
		record->image_ctime_secs = BPF_CORE_READ(split, i_ctime_sec);
		record->image_ctime_nanos = BPF_CORE_READ(split, i_ctime_nsec) & ~CTIME_QUERIED;
	} else if (bpf_core_field_exists(private->__i_ctime)) {
		record->image_ctime_secs = BPF_CORE_READ(private, __i_ctime.tv_sec);
		record->image_ctime_nanos = BPF_CORE_READ(private, __i_ctime.tv_nsec);
	} else if (bpf_core_field_exists(old->i_ctime)) {
		record->image_ctime_secs = BPF_CORE_READ(old, i_ctime.tv_sec);
		record->image_ctime_nanos = BPF_CORE_READ(old, i_ctime.tv_nsec);
	}
}

SEC(TRACEPOINT "sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm)
{
	__u32 pid = BPF_CORE_READ(task, tgid);
	struct task_struct *parent = BPF_CORE_READ(task, real_parent, group_leader);
	__u32 ppid = BPF_CORE_READ(parent, tgid);

	if (bpf_map_lookup_elem(&excluded, &pid) || bpf_map_lookup_elem(&excluded, &ppid))
		return 0;

	__u32 cpu = bpf_get_smp_processor_id();
	struct scratch *s = bpf_map_lookup_elem(&scratches, &cpu);

	if (!s)
		return 0;

	struct exec_record *record = &s->record;
	struct process_counters *counts = begin(&record->header, RECORD_EXEC);

	if (!counts)
		return 0;
	/* Before all the reading, which would be for nothing. */
	if (share_turns_away(0, 0)) {
		counts->shed[RECORD_EXEC]++;
		return 0;
	}

	const struct cred *cred = BPF_CORE_READ(task, cred);
	struct file *file = BPF_CORE_READ(bprm, file);
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	const char *filename = BPF_CORE_READ(bprm, filename);
	struct mm_struct *mm = BPF_CORE_READ(task, mm);
	struct tty_struct *tty = BPF_CORE_READ(task, signal, tty);
	__u32 flags = 0;

	record->pid = pid;
	record->ppid = ppid;
	record->start_boottime_ns = BPF_CORE_READ(task, start_boottime);
	record->parent_start_boottime_ns = BPF_CORE_READ(parent, start_boottime);
	record->cgroup_id = bpf_get_current_cgroup_id();
	record->group_1 = group_of_version_1(task);
	record->inode = BPF_CORE_READ(inode, i_ino);
	record->device = BPF_CORE_READ(inode, i_sb, s_dev);
	record->nlink = BPF_CORE_READ(inode, i_nlink);
	put_version(record, inode);
	record->uid = BPF_CORE_READ(cred, uid.val);
	record->euid = BPF_CORE_READ(cred, euid.val);
	record->gid = BPF_CORE_READ(cred, gid.val);
	record->egid = BPF_CORE_READ(cred, egid.val);
	record->loginuid = -1;
	record->session = -1;
	if (bpf_core_field_exists(task->loginuid)) {
		record->loginuid = BPF_CORE_READ(task, loginuid.val);
		record->session = BPF_CORE_READ(task, sessionid);
	}
	bpf_probe_read_kernel(record->comm, sizeof(record->comm), &task->comm);
	bpf_probe_read_kernel(record->parent_comm, sizeof(record->parent_comm), &parent->comm);
	record->tty[0] = 0;
	if (tty)
		bpf_probe_read_kernel_str(record->tty, sizeof(record->tty), &tty->name);
	if (BPF_CORE_READ(bprm, interp) != filename)
		flags |= EXEC_SCRIPT;
	if (changes_identity(bprm, BPF_CORE_READ(inode, i_mode)))
		flags |= EXEC_SETUID;

	s->used = 0;
	put_path(s, BPF_CORE_READ(file, f_path.dentry), BPF_CORE_READ(file, f_path.mnt),
		 PATH_SPACE);
	record->path_len = s->used;
	if (s->cut)
		flags |= EXEC_PATH_CUT;
	put_path(s, BPF_CORE_READ(task, fs, pwd.dentry), BPF_CORE_READ(task, fs, pwd.mnt),
		 2 * PATH_SPACE);
	/* The root has no name: an empty one tells it from a path that is not known. */
	if (!s->cut && s->used == record->path_len) {
		__u64 end = s->used;

		asm volatile("" : "+r"(end));
		if (end < DATA_MAX) {
			s->data[end] = 0;
			s->used = end + 1;
		}
	}
	record->cwd_len = s->used - record->path_len;
	if (s->cut)
		record->cwd_len = 0;

	__u32 at = s->used;

	record->filename_len = 0;
	if (at <= 2 * PATH_SPACE) {
		long length = bpf_probe_read_kernel_str(&s->data[at], PATH_SPACE, filename);

		if (length > 0) {
			record->filename_len = length;
			s->used = at + length;
		}
	}

	unsigned long from = BPF_CORE_READ(mm, arg_start);
	__u64 length = BPF_CORE_READ(mm, arg_end) - from;

	record->args_len = put_user(s, from, length, ARGS_MAX);
	if (length && !record->args_len)
		flags |= EXEC_ARGS_MISSING;
	else if (length > ARGS_MAX)
		flags |= EXEC_ARGS_CUT;

	from = BPF_CORE_READ(mm, env_start);
	length = BPF_CORE_READ(mm, env_end) - from;
	record->env_len = put_user(s, from, length, ENV_MAX);
	if (length > record->env_len)
		flags |= EXEC_ENV_CUT;

	record->flags = flags;

	__u64 size = s->used;

	asm volatile("" : "+r"(size));
	if (size > DATA_MAX)
		size = DATA_MAX;
	size += sizeof(*record);
	record->header.size = size;
	if (share_turns_away(size, 0))
		counts->shed[RECORD_EXEC]++;
	else if (bpf_ringbuf_output(&ring, s, size, wake_flag(record->header.ts_boot_ns)))
		counts->dropped[RECORD_EXEC]++;
	return 0;
}

SEC(TRACEPOINT "sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *current_task, struct task_struct *child)
{
	__u32 pid = BPF_CORE_READ(child, tgid);

	if (pid != BPF_CORE_READ(child, pid))
		return 0;

	struct task_struct *parent = BPF_CORE_READ(child, real_parent, group_leader);
	struct fork_record record = {};
	struct process_counters *counts = begin(&record.header, RECORD_FORK);

	if (!counts)
		return 0;
	record.pid = pid;
	record.ppid = BPF_CORE_READ(parent, tgid);
	record.start_boottime_ns = BPF_CORE_READ(child, start_boottime);
	record.parent_start_boottime_ns = BPF_CORE_READ(parent, start_boottime);
	record.uid = BPF_CORE_READ(child, cred, uid.val);
	bpf_probe_read_kernel(record.comm, sizeof(record.comm), &child->comm);
	record.header.size = sizeof(record);
	if (share_turns_away(sizeof(record), SHARE_CHEAP | SHARE_UNCOUNTED))
		counts->shed[RECORD_FORK]++;
	else if (bpf_ringbuf_output(&ring, &record, sizeof(record),
				    wake_flag(record.header.ts_boot_ns)))
		counts->dropped[RECORD_FORK]++;
	return 0;
}

/* Whether the end of a process is an event, and not only for the agent to know. */
static __always_inline bool is_told(struct task_struct *task, __u32 status, bool excluded_task)
{
	__u32 signal = status & 0x7f;

	/* Of the agent's own programs as well: who makes them fail may want to be rid of them. */
	if (signal < 32 && (FAULT_SIGNALS >> signal & 1))
		return true;
	if (!is_set(SETTING_ALL_ENDS) || excluded_task)
		return false;
	return !(BPF_CORE_READ(task, flags) & PF_KTHREAD);
}

static __always_inline int tell_end(struct task_struct *task, struct task_struct *leader,
				    __u32 pid, __u32 ppid, __u32 status)
{
	struct signal_struct *signal = BPF_CORE_READ(task, signal);
	struct end_record record = {};
	struct process_counters *counts = begin(&record.header, RECORD_END);

	if (!counts)
		return 0;
	record.pid = pid;
	record.ppid = ppid;
	record.status = status;
	record.start_boottime_ns = BPF_CORE_READ(leader, start_boottime);
	record.cgroup_id = bpf_get_current_cgroup_id();
	record.group_1 = group_of_version_1(task);
	record.uid = BPF_CORE_READ(task, cred, uid.val);
	/* Threads that ended before are in the sums of the process, but for its first one. */
	record.user_ns = BPF_CORE_READ(signal, utime) + BPF_CORE_READ(task, utime);
	record.system_ns = BPF_CORE_READ(signal, stime) + BPF_CORE_READ(task, stime);
	record.runtime_ns = BPF_CORE_READ(signal, sum_sched_runtime) +
			    BPF_CORE_READ(task, se.sum_exec_runtime);
	if (leader != task) {
		record.user_ns += BPF_CORE_READ(leader, utime);
		record.system_ns += BPF_CORE_READ(leader, stime);
		record.runtime_ns += BPF_CORE_READ(leader, se.sum_exec_runtime);
	}
	record.max_rss_pages = BPF_CORE_READ(signal, maxrss);
	bpf_probe_read_kernel(record.comm, sizeof(record.comm), &leader->comm);
	record.header.size = sizeof(record);
	/* A fault is worth more than the end of what had nothing more to do. */
	if (share_turns_away(sizeof(record), SHARE_UNCOUNTED | (status & 0x7f ? 0 : SHARE_CHEAP)))
		counts->shed[RECORD_END]++;
	else if (bpf_ringbuf_output(&ring, &record, sizeof(record),
				    wake_flag(record.header.ts_boot_ns)))
		counts->dropped[RECORD_END]++;
	return 0;
}

SEC(TRACEPOINT "sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
	__u32 pid = BPF_CORE_READ(task, tgid);
	struct signal_struct *signal = BPF_CORE_READ(task, signal);

	if (BPF_CORE_READ(signal, live.counter) > 0)
		return 0;

	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	__u32 ppid = BPF_CORE_READ(task, real_parent, tgid);
	bool own = bpf_map_lookup_elem(&excluded, &ppid) != NULL;

	/* Its number will be given to somebody else, who is not the agent. */
	if (bpf_map_lookup_elem(&excluded, &pid)) {
		bpf_map_delete_elem(&excluded, &pid);
		own = true;
	}

	/* As wait(2) would tell it (wait_task_zombie of the kernel). */
	__u32 status = BPF_CORE_READ(signal, flags) & SIGNAL_GROUP_EXIT ?
			       BPF_CORE_READ(signal, group_exit_code) :
			       BPF_CORE_READ(leader, exit_code);

	if (is_told(task, status, own))
		return tell_end(task, leader, pid, ppid, status);

	struct exit_record record = {};
	struct process_counters *counts = begin(&record.header, RECORD_EXIT);

	if (!counts)
		return 0;
	record.pid = pid;
	record.start_boottime_ns = BPF_CORE_READ(leader, start_boottime);
	record.header.size = sizeof(record);
	if (share_turns_away(sizeof(record), SHARE_CHEAP | SHARE_UNCOUNTED))
		counts->shed[RECORD_EXIT]++;
	else if (bpf_ringbuf_output(&ring, &record, sizeof(record),
				    wake_flag(record.header.ts_boot_ns)))
		counts->dropped[RECORD_EXIT]++;
	return 0;
}

/* Both versions. On a host of version 2 alone that is one per container, service and session. */
SEC(TRACEPOINT "cgroup_mkdir")
int BPF_PROG(on_group, struct cgroup___process *group, const char *path)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct scratch *s = bpf_map_lookup_elem(&scratches, &cpu);
	struct group_record *record = (void *)s;

	if (!s)
		return 0;

	struct process_counters *counts = begin(&record->header, RECORD_GROUP);

	if (!counts)
		return 0;
	record->id = BPF_CORE_READ(group, kn, id);
	record->hierarchy = BPF_CORE_READ(group, root, hierarchy_id);
	record->reserved = 0;

	long length = bpf_probe_read_kernel_str(record + 1, PATH_SPACE, path);

	if (length < 0 || length > PATH_SPACE)
		length = 0;
	record->path_len = length;

	__u64 size = length;

	asm volatile("" : "+r"(size));
	if (size > PATH_SPACE)
		size = PATH_SPACE;
	size += sizeof(*record);
	record->header.size = size;
	if (share_turns_away(size, SHARE_UNCOUNTED))
		counts->shed[RECORD_GROUP]++;
	else if (bpf_ringbuf_output(&ring, s, size, wake_flag(record->header.ts_boot_ns)))
		counts->dropped[RECORD_GROUP]++;
	return 0;
}
