/* SPDX-License-Identifier: GPL-2.0-or-later OR Apache-2.0 */
/*
 * Fair shares of a ring, so that whoever makes many records cannot hide what others do.
 *
 * While a ring has room, everybody may write. Once it is crowded, a group may only write while
 * what it wrote since then is less than half of what is still free (the dynamic thresholds of
 * Choudhury and Hahne, IEEE/ACM Transactions on Networking 6(2), 1998). However many groups write
 * all they can, a part stays free, and a group that was quiet finds room there. Details of others'
 * records, which can be missed, get an eighth.
 *
 * A group is a control group (version 2), at most SHARE_LEVEL below the root: deeper ones can be
 * made by those who are in them. Processes in the root group, which is all of them where containers
 * use version 1, go by the outermost process namespace of their own, and without one by their user.
 *
 * For programs with a ring; SHARE_RING, its name, is theirs to define before, and SHARE_PART if less
 * than a quarter of it is to be shared. What is turned away is
 * counted exactly by the programs; which group it was from, in `shares`, is close to it, as groups
 * are told apart without locks. Read by crates/sensor-linux/src/share.rs.
 */
#ifndef YINGLONG_SHARE_H
#define YINGLONG_SHARE_H

/* system.slice/x.service is 2, a pod (kubepods.slice/kubepods-burstable.slice/x) 3. */
#define SHARE_LEVEL 3
#define SHARE_CLIMB 16
#ifndef SHARE_PART
#define SHARE_PART 4
#endif
#define SHARE_SLOTS 256
#define SHARE_PROBES 4

#define SHARE_ID ((1ULL << 56) - 1)

/* The upper byte of a group; the rest is the id. */
enum share_kind {
	SHARE_CGROUP = 1,
	SHARE_PID_NAMESPACE = 2,
	SHARE_USER = 3,
	/* Made where no process is known, or by one whose group is too deep to be followed. */
	SHARE_OTHERS = 4,
};

enum share_flag {
	/* Gives way early. */
	SHARE_CHEAP = 1,
	/* Nothing the books count. */
	SHARE_UNCOUNTED = 2,
};

struct share_slot {
	__u64 group;
	/* Where the ring ended when the group's present count began. */
	__u64 start;
	/* Bytes written since. */
	__u64 used;
	/* Records turned away since the group has the slot. */
	__u64 shed;
};

struct share_table {
	struct share_slot slots[SHARE_SLOTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct share_table);
} shares SEC(".maps");

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct kernfs_node___share {
	u64 id;
};
struct cgroup___share;
struct cgroup_subsys_state___share {
	struct cgroup___share *cgroup;
	struct cgroup_subsys_state___share *parent;
};
struct cgroup___share {
	struct cgroup_subsys_state___share self;
	int level;
	struct kernfs_node___share *kn;
};
struct css_set___share {
	struct cgroup___share *dfl_cgrp;
};
struct task_struct___share {
	struct css_set___share *cgroups;
	struct pid *thread_pid;
	const struct cred *cred;
};
#pragma clang attribute pop

static __always_inline __u64 share_group(enum share_kind kind, __u64 id)
{
	return ((__u64)kind << 56) | (id & SHARE_ID);
}

/* What is free once the ring is crowded; 0 while there is room for everybody. */
static __always_inline __u64 share_crowded(void)
{
	__u64 size = bpf_ringbuf_query(&SHARE_RING, BPF_RB_RING_SIZE);
	__u64 used = bpf_ringbuf_query(&SHARE_RING, BPF_RB_AVAIL_DATA);
	__u64 free = size - used;

	if (free > size / SHARE_PART)
		return 0;
	/* A ring without a byte left is crowded, too. */
	return free | 1;
}

/*
 * Whether a process is the one that is running. Programs of sockets have no helper for it on every
 * kernel, but may read it.
 */
static __always_inline bool share_is_current(__u32 pid)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return pid == (__u32)BPF_CORE_READ(task, tgid);
}

/* The group of the current task. */
static __noinline __u64 share_of_current(void)
{
	struct task_struct___share *task = (void *)bpf_get_current_task();

	if (bpf_core_field_exists(task->cgroups)) {
		struct cgroup___share *group = BPF_CORE_READ(task, cgroups, dfl_cgrp);
		int level = BPF_CORE_READ(group, level);

		if (level > SHARE_LEVEL + SHARE_CLIMB)
			return share_group(SHARE_OTHERS, 1);
		for (int climbed = 0; climbed < SHARE_CLIMB && level > SHARE_LEVEL; climbed++) {
			group = BPF_CORE_READ(group, self.parent, cgroup);
			level--;
		}
		if (level > 0)
			return share_group(SHARE_CGROUP, BPF_CORE_READ(group, kn, id));
	}

	struct pid *pid = BPF_CORE_READ(task, thread_pid);

	if (BPF_CORE_READ(pid, level) > 0) {
		struct upid *outermost = (void *)pid + bpf_core_field_offset(struct pid, numbers) +
					 bpf_core_type_size(struct upid);

		return share_group(SHARE_PID_NAMESPACE, BPF_CORE_READ(outermost, ns, ns.inum));
	}
	return share_group(SHARE_USER, BPF_CORE_READ(task, cred, uid.val));
}

/*
 * Whether a record of a crowded ring is turned away, else its bytes are entered. Without bytes it
 * is a look whether anything would be taken.
 */
static __noinline int share_sheds(__u64 group, __u64 free, __u32 bytes, __u32 flags)
{
	__u32 zero = 0;
	struct share_table *table = bpf_map_lookup_elem(&shares, &zero);
	struct share_slot *slot = NULL;
	__u64 place = (group * 0x9e3779b97f4a7c15ULL) >> 56;
	__u64 consumed;

	if (!table)
		return 0;
	consumed = bpf_ringbuf_query(&SHARE_RING, BPF_RB_CONS_POS);
	for (int probe = 0; probe < SHARE_PROBES; probe++) {
		struct share_slot *found = &table->slots[(place + probe) & (SHARE_SLOTS - 1)];

		if (found->group == group) {
			slot = found;
			break;
		}
		/* Nobody's, or of somebody all of whose records of then were read. */
		if (!slot && (!found->group || found->start < consumed))
			slot = found;
	}
	/* More groups at once than there are places: they share one. */
	if (!slot)
		slot = &table->slots[place & (SHARE_SLOTS - 1)];
	else if (slot->group != group) {
		slot->group = group;
		slot->start = 0;
		slot->shed = 0;
	}
	if (slot->start < consumed || !slot->start) {
		slot->start = bpf_ringbuf_query(&SHARE_RING, BPF_RB_PROD_POS);
		slot->used = 0;
	}

	__u64 limit = flags & SHARE_CHEAP ? free / 8 : free / 2;

	/* 8 bytes of the ring's own before every record, which begins at a multiple of 8. */
	if (bytes)
		bytes = (bytes + 8 + 7) & ~7U;
	if (slot->used + bytes >= limit) {
		if (!(flags & SHARE_UNCOUNTED))
			__sync_fetch_and_add(&slot->shed, 1);
		return 1;
	}
	__sync_fetch_and_add(&slot->used, bytes);
	return 0;
}

/* Whether a record of the current task is turned away. */
static __always_inline bool share_turns_away(__u32 bytes, __u32 flags)
{
	__u64 free = share_crowded();

	return free && share_sheds(share_of_current(), free, bytes, flags);
}

#endif
