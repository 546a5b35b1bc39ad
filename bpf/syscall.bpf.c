// SPDX-License-Identifier: GPL-2.0-or-later OR Apache-2.0
/*
 * System calls that matter for security.
 *
 * Two programs, each attached to the tracepoints of the watched calls only, so that no program
 * runs at other calls; and two for all calls, which the agent attaches when the interface for 32-bit
 * programs is to be watched as well (its calls have no tracepoints), or where the kernel is too
 * old to share tracepoints.
 *
 * Who calls, and with what rights, is noted when a call begins; texts are read when it has ended,
 * because by then the kernel has had to make their memory present.
 */
#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include "syscall_abi.h"

char LICENSE[] SEC("license") = "GPL";

#define PATH_LEVELS 32
#define NAME_SPACE 256
/* Ancestors looked at for process 1. */
#define ANCESTORS 48
/* Calls of one kernel that have begun and not ended. */
#define PENDING 4096
#define NUMBERS 512

#define WAKE_PERIOD_NS 50000000ULL
#define WAKE_BYTES (256 << 10)
#define WAKE_MINIMUM_NS 1000000ULL

#define PTRACE_POKETEXT 4
#define PTRACE_POKEUSR 6
#define PTRACE_ATTACH 16
#define PTRACE_SEIZE 0x4206
#define BPF_PROG_LOAD_COMMAND 5
#define ENOENT 2
#define NSFS_MAGIC 0x6e736673
#define PIDFS_MAGIC 0x50494446
#define PIDTYPE_PGID 2

#define CLONE_NEWTIME 0x80
#define CLONE_NEWNS 0x20000
#define CLONE_NEWCGROUP 0x2000000
#define CLONE_NEWUTS 0x4000000
#define CLONE_NEWIPC 0x8000000
#define CLONE_NEWUSER 0x10000000
#define CLONE_NEWPID 0x20000000
#define CLONE_NEWNET 0x40000000

/* Fields that the shared header does not have. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct proc_ns_operations___old {
	int type;
};
struct ns_common___old {
	const struct proc_ns_operations___old *ops;
};
struct ns_common___new {
	u32 ns_type;
};
struct inode___private {
	void *i_private;
};
struct cred___ns {
	void *user_ns;
};
struct nsproxy___all {
	void *uts_ns;
	void *ipc_ns;
	void *mnt_ns;
	void *pid_ns_for_children;
	void *net_ns;
	void *time_ns;
	void *cgroup_ns;
};
struct task_struct___pids {
	struct pid *thread_pid;
};
#pragma clang attribute pop

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 2 << 20);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct syscall_counters);
} counters SEC(".maps");

/* Bits of syscall_setting. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} settings SEC(".maps");

/* The agent's processes, and its process groups as negative numbers. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, __s32);
	__type(value, __u8);
} agents SEC(".maps");

/* From a number to a watched_call; that of the interface for 32-bit programs in the upper half. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NUMBERS);
	__type(key, __u32);
	__type(value, __u32);
} calls SEC(".maps");

struct pending {
	__u64 args[5];
	__u32 call;
	__u32 uid;
	__u32 euid;
	__u32 gid;
	__u32 egid;
	__u32 apart;
};

/* Calls that have begun, by thread. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, PENDING);
	__type(key, __u32);
	__type(value, struct pending);
} begun SEC(".maps");

struct scratch {
	struct syscall_record record;
	char data[SYSCALL_DATA_MAX];
	/* Kept in memory: the verifier then forgets its range, and does not follow every value. */
	__u32 used;
	__u32 cut;
};

/* One per possible CPU (set by the loader); see process.bpf.c. */
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

static __always_inline __u32 setting(void)
{
	__u32 zero = 0;
	__u32 *value = bpf_map_lookup_elem(&settings, &zero);

	return value ? *value : 0;
}

/* The first process of the host; NULL when it is not found. */
static __always_inline struct task_struct *first_process(struct task_struct *task)
{
	for (int level = 0; level < ANCESTORS; level++) {
		int pid = BPF_CORE_READ(task, tgid);

		if (pid == 1)
			return task;
		if (pid == 0)
			return NULL;
		task = BPF_CORE_READ(task, real_parent);
	}
	return NULL;
}

/* CLONE_NEW* bits of the namespaces that are not those of the first process. */
static __always_inline __u32 apart(struct task_struct *task)
{
	struct task_struct *first = first_process(task);
	__u32 bits = 0;

	if (!first)
		return 0;

	struct nsproxy___all *mine = (void *)BPF_CORE_READ(task, nsproxy);
	struct nsproxy___all *theirs = (void *)BPF_CORE_READ(first, nsproxy);
	struct cred___ns *my_cred = (void *)BPF_CORE_READ(task, real_cred);
	struct cred___ns *their_cred = (void *)BPF_CORE_READ(first, real_cred);

	if (!mine || !theirs)
		return 0;
	if (BPF_CORE_READ(mine, uts_ns) != BPF_CORE_READ(theirs, uts_ns))
		bits |= CLONE_NEWUTS;
	if (BPF_CORE_READ(mine, ipc_ns) != BPF_CORE_READ(theirs, ipc_ns))
		bits |= CLONE_NEWIPC;
	if (BPF_CORE_READ(mine, mnt_ns) != BPF_CORE_READ(theirs, mnt_ns))
		bits |= CLONE_NEWNS;
	if (BPF_CORE_READ(mine, pid_ns_for_children) != BPF_CORE_READ(theirs, pid_ns_for_children))
		bits |= CLONE_NEWPID;
	if (BPF_CORE_READ(mine, net_ns) != BPF_CORE_READ(theirs, net_ns))
		bits |= CLONE_NEWNET;
	if (bpf_core_field_exists(mine->time_ns) &&
	    BPF_CORE_READ(mine, time_ns) != BPF_CORE_READ(theirs, time_ns))
		bits |= CLONE_NEWTIME;
	if (BPF_CORE_READ(mine, cgroup_ns) != BPF_CORE_READ(theirs, cgroup_ns))
		bits |= CLONE_NEWCGROUP;
	if (BPF_CORE_READ(my_cred, user_ns) != BPF_CORE_READ(their_cred, user_ns))
		bits |= CLONE_NEWUSER;
	return bits;
}

static __always_inline struct file *file_of(struct task_struct *task, int fd)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file *file = NULL;

	if (!table || fd < 0 || (__u32)fd >= BPF_CORE_READ(table, max_fds))
		return NULL;

	struct file **files = BPF_CORE_READ(table, fd);

	bpf_probe_read_kernel(&file, sizeof(file), &files[fd]);
	return file;
}

/* Process that a descriptor of a process stands for, as the host numbers it; 0 for other files. */
static __always_inline __u32 process_of(struct file *file)
{
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct pid *pid = NULL;

	if (BPF_CORE_READ(inode, i_sb, s_magic) == PIDFS_MAGIC) {
		pid = BPF_CORE_READ((struct inode___private *)inode, i_private);
	} else {
		char name[8] = {};

		/* Before Linux 6.9: an anonymous file of that name. */
		bpf_probe_read_kernel_str(name, sizeof(name),
					  BPF_CORE_READ(file, f_path.dentry, d_name.name));
		if (name[0] == '[' && name[1] == 'p' && name[2] == 'i' && name[3] == 'd' &&
		    name[4] == 'f' && name[5] == 'd' && name[6] == ']')
			pid = BPF_CORE_READ(file, private_data);
	}
	return pid ? BPF_CORE_READ(pid, numbers[0].nr) : 0;
}

static __always_inline bool own_pids(struct task_struct *task)
{
	return BPF_CORE_READ((struct task_struct___pids *)task, thread_pid, level) != 0;
}

static __always_inline bool is_agent(__s32 number)
{
	return bpf_map_lookup_elem(&agents, &number);
}

/* Whether a signal is meant for the agent. Threads that are not first are not known. */
static __always_inline bool signals_agent(struct task_struct *task, __u32 call, __u64 *args)
{
	__s32 to = args[0];

	if (call == CALL_PIDFD_SEND_SIGNAL) {
		struct file *file = file_of(task, to);
		__u32 pid = file ? process_of(file) : 0;

		return pid && is_agent(pid);
	}
	if (own_pids(task))
		return false;
	if (call == CALL_KILL && to == -1)
		return true;
	if (call == CALL_KILL && to == 0)
		to = -BPF_CORE_READ(task, signal, pids[PIDTYPE_PGID], numbers[0].nr);
	return to && is_agent(to);
}

static __always_inline void begins(__u32 call, __u64 *args)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 both = bpf_get_current_pid_tgid();
	__u32 thread = both;
	const struct cred *cred = BPF_CORE_READ(task, cred);
	struct pending pending = {};

	if (is_agent(both >> 32) || is_agent(BPF_CORE_READ(task, real_parent, tgid)))
		return;

	pending.call = call;
	pending.uid = BPF_CORE_READ(cred, uid.val);
	pending.euid = BPF_CORE_READ(cred, euid.val);
	pending.gid = BPF_CORE_READ(cred, gid.val);
	pending.egid = BPF_CORE_READ(cred, egid.val);
	switch (call) {
	case CALL_PTRACE:
		if (!(args[0] >= PTRACE_POKETEXT && args[0] <= PTRACE_POKEUSR) &&
		    args[0] != PTRACE_ATTACH && args[0] != PTRACE_SEIZE)
			return;
		break;
	case CALL_BPF:
		if ((__u32)args[0] != BPF_PROG_LOAD_COMMAND)
			return;
		break;
	case CALL_SETUID:
	case CALL_SETREUID:
	case CALL_SETRESUID:
		if (!pending.euid)
			return;
		break;
	case CALL_SETGID:
	case CALL_SETREGID:
	case CALL_SETRESGID:
		if (!pending.euid || !pending.egid)
			return;
		break;
	case CALL_KILL:
	case CALL_TKILL:
	case CALL_TGKILL:
	case CALL_RT_SIGQUEUEINFO:
	case CALL_RT_TGSIGQUEUEINFO:
	case CALL_PIDFD_SEND_SIGNAL:
		if (!signals_agent(task, call, args))
			return;
		break;
	case CALL_SETNS:
		pending.apart = apart(task);
		break;
	}
	for (int index = 0; index < 5; index++)
		pending.args[index] = args[index];
	bpf_map_update_elem(&begun, &thread, &pending, BPF_ANY);
}

/* Appends a text of the caller; returns its length with its NUL. */
static __always_inline __u32 put_text(struct scratch *s, __u64 from, __u32 *flags)
{
	__u32 at = s->used;

	if (!from || at > SYSCALL_DATA_MAX - TEXT_MAX)
		return 0;

	long length = bpf_probe_read_user_str(&s->data[at], TEXT_MAX, (void *)from);

	if (length <= 0) {
		*flags |= SYSCALL_TEXT_MISSING;
		return 0;
	}
	if (length >= TEXT_MAX)
		*flags |= SYSCALL_TEXT_CUT;
	s->used = at + length;
	return length;
}

/* Appends the command line of the caller; returns its length. */
static __always_inline __u32 put_command(struct scratch *s, struct mm_struct *mm, __u32 *flags)
{
	unsigned long from = BPF_CORE_READ(mm, arg_start);
	__u64 length = BPF_CORE_READ(mm, arg_end) - from;
	__u32 at = s->used;

	asm volatile("" : "+r"(length));
	if (length > COMMAND_MAX) {
		*flags |= SYSCALL_COMMAND_CUT;
		length = COMMAND_MAX;
	}
	if (at > SYSCALL_DATA_MAX - COMMAND_MAX)
		return 0;
	if (bpf_probe_read_user(&s->data[at], length, (void *)from))
		return 0;
	s->used = at + length;
	return length;
}

/* What the arguments point to. */
static __always_inline void put_details(struct scratch *s, struct task_struct *task, __u32 call,
					__u64 *args, __u32 *flags)
{
	struct syscall_record *record = &s->record;
	__u64 first = 0, second = 0, third = 0;
	struct file *file = NULL;

	switch (call) {
	case CALL_FINIT_MODULE:
	case CALL_SETNS:
	case CALL_PIDFD_SEND_SIGNAL:
		file = file_of(task, args[0]);
		break;
	}
	switch (call) {
	case CALL_INIT_MODULE:
		second = args[2];
		break;
	case CALL_FINIT_MODULE:
		second = args[1];
		break;
	case CALL_DELETE_MODULE:
	case CALL_MEMFD_CREATE:
	case CALL_UMOUNT2:
	case CALL_EXECVE:
		first = args[0];
		break;
	case CALL_EXECVEAT:
		first = args[1];
		break;
	case CALL_MOUNT:
		first = args[1];
		second = args[0];
		third = args[2];
		break;
	case CALL_MOVE_MOUNT:
		first = args[3];
		second = args[1];
		break;
	case CALL_PIVOT_ROOT:
		first = args[0];
		second = args[1];
		break;
	case CALL_BPF: {
		/* union bpf_attr: prog_type is at 0, prog_name at 48. */
		__u32 type = 0;

		if (bpf_probe_read_user(&type, sizeof(type), (void *)args[1]))
			*flags |= SYSCALL_TEXT_MISSING;
		args[3] = type;
		if ((__u32)args[2] >= 64)
			first = args[1] + 48;
		break;
	}
	}
	if (call == CALL_FINIT_MODULE && file) {
		__u32 at = s->used;

		record->inode = BPF_CORE_READ(file, f_inode, i_ino);
		put_path(s, BPF_CORE_READ(file, f_path.dentry), BPF_CORE_READ(file, f_path.mnt),
			 IMAGE_MAX + COMMAND_MAX + TEXT_MAX);
		record->text_len[0] = s->used - at;
		if (s->cut)
			*flags |= SYSCALL_TEXT_CUT;
	} else if (file) {
		struct inode *inode = BPF_CORE_READ(file, f_inode);

		record->inode = BPF_CORE_READ(inode, i_ino);
		if (BPF_CORE_READ(inode, i_sb, s_magic) == NSFS_MAGIC) {
			void *ns = BPF_CORE_READ((struct inode___private *)inode, i_private);

			*flags |= SYSCALL_NAMESPACE;
			if (bpf_core_field_exists(((struct ns_common___new *)ns)->ns_type))
				record->namespace_type =
					BPF_CORE_READ((struct ns_common___new *)ns, ns_type);
			else
				record->namespace_type =
					BPF_CORE_READ((struct ns_common___old *)ns, ops, type);
		} else {
			record->target_pid = process_of(file);
		}
	}
	if (first)
		record->text_len[0] = put_text(s, first, flags);
	if (second)
		record->text_len[1] = put_text(s, second, flags);
	if (third)
		record->text_len[2] = put_text(s, third, flags);
}

static __always_inline void ends(long ret, __u32 flags)
{
	__u32 thread = bpf_get_current_pid_tgid();
	struct pending *found = bpf_map_lookup_elem(&begun, &thread);
	struct pending pending;
	__u32 zero = 0;

	if (!found)
		return;
	pending = *found;
	bpf_map_delete_elem(&begun, &thread);

	struct task_struct *task = (void *)bpf_get_current_task();
	struct syscall_counters *counts = bpf_map_lookup_elem(&counters, &zero);
	__u32 cpu = bpf_get_smp_processor_id();
	struct scratch *s = bpf_map_lookup_elem(&scratches, &cpu);
	const struct cred *cred = BPF_CORE_READ(task, cred);
	__u32 call = pending.call;

	if (!counts || !s)
		return;

	struct syscall_record *record = &s->record;

	record->new_euid = BPF_CORE_READ(cred, euid.val);
	record->new_egid = BPF_CORE_READ(cred, egid.val);
	switch (call) {
	case CALL_EXECVE:
	case CALL_EXECVEAT:
		if (ret >= 0)
			return;
		if (ret == -ENOENT) {
			counts->not_found++;
			return;
		}
		break;
	case CALL_SETUID:
	case CALL_SETREUID:
	case CALL_SETRESUID:
		if (ret || record->new_euid)
			return;
		break;
	case CALL_SETGID:
	case CALL_SETREGID:
	case CALL_SETRESGID:
		if (ret || record->new_egid)
			return;
		break;
	}

	counts->tried++;
	record->header.seq = ++counts->seq;
	record->header.ts_boot_ns = bpf_ktime_get_boot_ns();
	record->header.type = RECORD_SYSCALL;
	record->header.cpu = cpu;

	struct task_struct *parent = BPF_CORE_READ(task, real_parent, group_leader);
	struct mm_struct *mm = BPF_CORE_READ(task, mm);
	struct tty_struct *tty = BPF_CORE_READ(task, signal, tty);
	struct file *image = BPF_CORE_READ(mm, exe_file);

	record->start_boottime_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	record->parent_start_boottime_ns = BPF_CORE_READ(parent, start_boottime);
	record->cgroup_id = bpf_get_current_cgroup_id();
	record->ret = ret;
	record->inode = 0;
	record->call = call;
	record->pid = bpf_get_current_pid_tgid() >> 32;
	record->ppid = BPF_CORE_READ(parent, tgid);
	record->uid = pending.uid;
	record->euid = pending.euid;
	record->gid = pending.gid;
	record->egid = pending.egid;
	record->loginuid = -1;
	record->session = -1;
	if (bpf_core_field_exists(task->loginuid)) {
		record->loginuid = BPF_CORE_READ(task, loginuid.val);
		record->session = BPF_CORE_READ(task, sessionid);
	}
	record->target_pid = 0;
	record->namespace_type = 0;
	record->to_init = 0;
	record->reserved = 0;
	for (int index = 0; index < 3; index++)
		record->text_len[index] = 0;
	bpf_probe_read_kernel(record->comm, sizeof(record->comm), &task->comm);
	bpf_probe_read_kernel(record->parent_comm, sizeof(record->parent_comm), &parent->comm);
	record->tty[0] = 0;
	if (tty)
		bpf_probe_read_kernel_str(record->tty, sizeof(record->tty), &tty->name);
	if (own_pids(task))
		flags |= SYSCALL_OWN_PIDS;
	if (call == CALL_SETNS && !ret)
		record->to_init = pending.apart & ~apart(task);

	s->used = 0;
	s->cut = 0;
	if (image)
		put_path(s, BPF_CORE_READ(image, f_path.dentry), BPF_CORE_READ(image, f_path.mnt),
			 IMAGE_MAX);
	record->image_len = s->used;
	if (s->cut)
		flags |= SYSCALL_IMAGE_CUT;
	record->command_len = mm ? put_command(s, mm, &flags) : 0;
	put_details(s, task, call, pending.args, &flags);
	record->flags = flags;
	for (int index = 0; index < 5; index++)
		record->args[index] = pending.args[index];

	__u64 size = s->used;

	asm volatile("" : "+r"(size));
	if (size > SYSCALL_DATA_MAX)
		size = SYSCALL_DATA_MAX;
	size += sizeof(*record);
	record->header.size = size;
	if (share_turns_away(size, 0))
		counts->shed++;
	else if (bpf_ringbuf_output(&ring, s, size, wake_flag(record->header.ts_boot_ns)))
		counts->dropped++;
}

/* Both meanings of a number. */
static __always_inline __u32 calls_of(__u64 number)
{
	__u32 key = number;
	__u32 *both;

	if (number >= NUMBERS)
		return CALL_NONE;
	both = bpf_map_lookup_elem(&calls, &key);
	return both ? *both : CALL_NONE;
}

SEC("tracepoint/syscalls")
int on_enter(struct trace_event_raw_sys_enter *ctx)
{
	/* Tracepoints of single calls set the lower half of the number only. */
	__u32 call = calls_of((__u32)ctx->id) & 0xffff;
	__u64 args[5] = {};

	if (call == CALL_NONE || !(setting() & SETTING_ON))
		return 0;
	/*
	 * Not read directly: a program that reads more arguments than a call has cannot be attached
	 * to its tracepoint. What is behind them is never looked at.
	 */
	bpf_probe_read_kernel(args, sizeof(args),
			      (void *)ctx +
				      bpf_core_field_offset(struct trace_event_raw_sys_enter, args));
	begins(call, args);
	return 0;
}

SEC("tracepoint/syscalls")
int on_exit(struct trace_event_raw_sys_exit *ctx)
{
	ends(ctx->ret, 0);
	return 0;
}

#if defined(__TARGET_ARCH_x86)

/* asm/ptrace.h, asm/thread_info.h */
#define TS_COMPAT 2

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct pt_regs {
	unsigned long r8;
	unsigned long r10;
	unsigned long bp;
	unsigned long bx;
	unsigned long cx;
	unsigned long dx;
	unsigned long si;
	unsigned long di;
	unsigned long orig_ax;
};
struct thread_info___status {
	u32 status;
};
struct task_struct___compat {
	struct thread_info___status thread_info;
};
#pragma clang attribute pop

static __always_inline bool compat(void)
{
	struct task_struct___compat *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(task, thread_info.status) & TS_COMPAT;
}

/* Which call of those seen here a number is; nearly all answers are none, after one look-up. */
static __always_inline __u32 seen_by_all(__u64 number, bool *is_compat)
{
	__u32 both = calls_of(number);

	if (both == CALL_NONE)
		return CALL_NONE;
	*is_compat = compat();
	if (*is_compat)
		return setting() & SETTING_COMPAT ? both >> 16 : CALL_NONE;
	return setting() & SETTING_RAW ? both & 0xffff : CALL_NONE;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(on_any_enter, struct pt_regs *regs, long number)
{
	bool is_compat = false;
	__u32 call = seen_by_all(number, &is_compat);
	__u64 args[5];

	if (call == CALL_NONE || !(setting() & SETTING_ON))
		return 0;
	if (is_compat) {
		args[0] = (__u32)regs->bx;
		args[1] = (__u32)regs->cx;
		args[2] = (__u32)regs->dx;
		args[3] = (__u32)regs->si;
		args[4] = (__u32)regs->di;
	} else {
		args[0] = regs->di;
		args[1] = regs->si;
		args[2] = regs->dx;
		args[3] = regs->r10;
		args[4] = regs->r8;
	}
	begins(call, args);
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_any_exit, struct pt_regs *regs, long ret)
{
	bool is_compat = false;

	if (seen_by_all(regs->orig_ax, &is_compat) != CALL_NONE)
		ends(is_compat ? (int)ret : ret, is_compat ? SYSCALL_COMPAT : 0);
	return 0;
}

#endif
