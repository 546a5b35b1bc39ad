/* SPDX-License-Identifier: GPL-2.0-or-later OR Apache-2.0 */
/*
 * Paths, read from directory entries. For programs whose `struct scratch` has data, used and cut;
 * PATH_LEVELS and NAME_SPACE are theirs to define before.
 */
#ifndef YINGLONG_PATH_H
#define YINGLONG_PATH_H

/* Appends the names of a path, leaf first, crossing mounts; sets cut when it is not complete. */
static __always_inline void put_path(struct scratch *s, struct dentry *dentry, struct vfsmount *vfs,
				     __u32 limit)
{
	struct mount *mount = (void *)vfs - bpf_core_field_offset(struct mount, mnt);

	s->cut = 1;
	for (int level = 0; level < PATH_LEVELS; level++) {
		struct dentry *root = BPF_CORE_READ(mount, mnt.mnt_root);
		struct dentry *parent = BPF_CORE_READ(dentry, d_parent);

		if (dentry == root) {
			struct mount *up = BPF_CORE_READ(mount, mnt_parent);

			if (up == mount || !up) {
				s->cut = 0;
				return;
			}
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			mount = up;
			continue;
		}

		__u32 at = s->used;

		if (at > limit - NAME_SPACE || at > sizeof(s->data) - NAME_SPACE)
			return;

		long length = bpf_probe_read_kernel_str(&s->data[at], NAME_SPACE,
							BPF_CORE_READ(dentry, d_name.name));
		if (length <= 0)
			return;
		s->used = at + length;
		/* A file without a directory, such as a memfd: its name is all there is. */
		if (parent == dentry) {
			s->cut = 0;
			return;
		}
		dentry = parent;
	}
}

#endif
