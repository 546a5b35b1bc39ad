/* SPDX-License-Identifier: GPL-2.0-or-later OR Apache-2.0 */
/*
 * Connection attempts with the process behind them.
 *
 * Outgoing TCP: a socket enters SYN_SENT in the task that connects, but its local port is chosen
 * later. So the task is remembered by socket, and the attempt is reported when the SYN leaves
 * (sock_ops TCP_CONNECT_CB) or, where control groups cannot be hooked, when its outcome is known.
 * Incoming TCP: a child socket becomes established in soft interrupt context (no process there),
 * and is reported a second time when a process accepts it.
 * UDP, only while the agent asks for it: sends, once per socket, peer and UDP_REPEAT_NS.
 *
 * Every attempt carries its initial sequence number, which tells two attempts between the same
 * addresses and ports apart.
 */
#include "include/vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "include/abi.h"
#include "include/tracepoint.h"

#define PENDING_SOCKETS 16384
#define UDP_FLOWS 16384
#define UDP_REPEAT_NS 20000000000ULL
#define RING_BYTES (4 * 1024 * 1024)
/*
 * As in wake.h: the reader is woken once per period at most, because that costs several times what a
 * program does besides. One that found nothing for a while sleeps until then; one that lets the ring
 * fill is woken earlier, but not again and again before it had its turn.
 */
#define WAKE_BYTES (256 * 1024)
#define WAKE_PERIOD_NS 50000000ULL
#define WAKE_MINIMUM_NS 1000000ULL
#define JOURNAL_PAGES 2048
#define JOURNAL_PAGE_BYTES 1024

#define SOCK_OPS_TCP_CONNECT_CB 3
#define PEER_ISN_READINGS 4

enum network_record_type {
	RECORD_CONNECT = 16,
	RECORD_OUTCOME = 17,
	RECORD_ESTABLISHED = 18,
	RECORD_ACCEPT = 19,
	RECORD_UDP_SEND = 20,
};

/* Addresses of IPv4 are in the first four bytes. */
struct connection_record {
	struct record_header header;
	__u64 start_boottime_ns;
	__u64 established_ns; /* ACCEPT: when the handshake ended, 0 when unknown */
	__u32 pid;
	__u32 uid;
	__u32 isn;
	__u16 family;
	__u16 local_port;
	__u16 remote_port;
	__u16 error; /* OUTCOME: errno, 0 when established */
	__u32 netns;
	__u8 local[16];
	__u8 remote[16];
	char comm[16];
};

_Static_assert(sizeof(struct connection_record) == 112, "record layout");

struct owner {
	__u64 start_boottime_ns;
	__u32 pid;
	__u32 uid;
	char comm[16];
	__u32 isn;
	__u32 reported;
};

struct flow_key {
	__u64 socket;
	__u8 remote[16];
	__u16 remote_port;
	__u16 pad[3];
};

/* Fields whose types the shared header does not have. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct tcp_sock {
	u32 rcv_nxt;
	u32 write_seq;
	u32 snd_una;
	u64 bytes_received;
};
struct msghdr {
	void *msg_name;
};
#pragma clang attribute pop

/* User-space interface, fixed layout (uapi/linux/bpf.h). */
struct bpf_sock_ops {
	__u32 op;
	union {
		__u32 args[4];
		__u32 reply;
		__u32 replylong[4];
	};
	__u32 family;
	__u32 remote_ip4;
	__u32 local_ip4;
	__u32 remote_ip6[4];
	__u32 local_ip6[4];
	__u32 remote_port;
	__u32 local_port;
	__u32 is_fullsock;
	__u32 snd_cwnd;
	__u32 srtt_us;
	__u32 bpf_sock_ops_cb_flags;
	__u32 state;
	__u32 rtt_min;
	__u32 snd_ssthresh;
	__u32 rcv_nxt;
	__u32 snd_nxt;
	__u32 snd_una;
	__u32 mss_cache;
	__u32 ecn_flags;
	__u32 rate_delivered;
	__u32 rate_interval_us;
	__u32 packets_out;
	__u32 retrans_out;
	__u32 total_retrans;
	__u32 segs_in;
	__u32 data_segs_in;
	__u32 segs_out;
	__u32 data_segs_out;
	__u32 lost_out;
	__u32 sacked_out;
	__u32 sk_txhash;
	__u64 bytes_received;
	__u64 bytes_acked;
	union {
		struct bpf_sock *sk;
		__u64 : 64;
	} __attribute__((aligned(8)));
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING_BYTES);
} records SEC(".maps");

/* Connecting sockets: who connects. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, PENDING_SOCKETS);
	__type(key, __u64);
	__type(value, struct owner);
} connecting SEC(".maps");

/* What the handshake of a socket told that was not accepted yet. */
struct handshake {
	__u64 ended_ns;
	__u32 isn;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, PENDING_SOCKETS);
	__type(key, __u64);
	__type(value, struct handshake);
} unaccepted SEC(".maps");

/* UDP flows: when last reported. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, UDP_FLOWS);
	__type(key, struct flow_key);
	__type(value, __u64);
} flows SEC(".maps");

/* Since the programs were loaded. */
struct network_counters {
	/* Records made, including those that found the ring full. */
	__u64 produced;
	/* Of them, attempts, accepts and UDP flows. */
	__u64 observations;
	/* Attempts, accepts and UDP flows that found the ring full. */
	__u64 lost_observations;
	/* Outcomes and handshakes that found the ring full; only the state of an event suffers. */
	__u64 lost_details;
	/* What found the ring crowded, and was of a group that had its share (share.h). */
	__u64 shed_observations;
	__u64 shed_details;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct network_counters);
} counters SEC(".maps");

/* Written by the agent. */
struct network_settings {
	/* How far the agent has read; it gives records up later than it reads them. */
	__u64 read_position;
	__u32 udp_wanted;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct network_settings);
} settings SEC(".maps");

/*
 * The agent's own: what it has reported lately. It lies here because maps outlive an agent that is
 * killed. No program looks at it.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, JOURNAL_PAGES);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, JOURNAL_PAGE_BYTES);
} journal SEC(".maps");

#define SHARE_RING records
/* The reader holds records until it knows what became of the attempt: half the ring is no crowd. */
#define SHARE_PART 8
#include "include/share.h"

/* Details come from soft interrupts, where the current task is anybody; so may attempts. */
static __always_inline bool shed(const struct connection_record *record, bool detail)
{
	__u64 free = share_crowded();

	if (!free)
		return false;
	if (detail)
		return share_sheds(share_group(SHARE_OTHERS, 0), free, sizeof(*record),
				   SHARE_CHEAP | SHARE_UNCOUNTED);
	if (share_is_current(record->pid))
		return share_sheds(share_of_current(), free, sizeof(*record), 0);
	return share_sheds(share_group(SHARE_USER, record->uid), free, sizeof(*record), 0);
}

static volatile __u64 last_wake_ns;

static __always_inline void send(struct connection_record *record, __u16 type)
{
	bool detail = type == RECORD_OUTCOME || type == RECORD_ESTABLISHED;
	__u32 zero = 0;
	struct network_counters *counts = bpf_map_lookup_elem(&counters, &zero);
	struct network_settings *set = bpf_map_lookup_elem(&settings, &zero);

	if (!counts || !set)
		return;
	if (!detail)
		__sync_fetch_and_add(&counts->observations, 1);
	/* A program may be interrupted by another one on its CPU; see struct record_header. */
	__sync_fetch_and_add(&counts->produced, 1);
	record->header.seq = counts->produced;
	record->header.ts_boot_ns = bpf_ktime_get_boot_ns();
	record->header.type = type;
	record->header.size = sizeof(*record);

	if (shed(record, detail)) {
		__sync_fetch_and_add(detail ? &counts->shed_details : &counts->shed_observations, 1);
		return;
	}
	__u64 since = record->header.ts_boot_ns - last_wake_ns;
	__u64 flags = BPF_RB_NO_WAKEUP;
	if (since >= WAKE_PERIOD_NS ||
	    (since >= WAKE_MINIMUM_NS &&
	     bpf_ringbuf_query(&records, BPF_RB_PROD_POS) - set->read_position >= WAKE_BYTES)) {
		last_wake_ns = record->header.ts_boot_ns;
		flags = BPF_RB_FORCE_WAKEUP;
	}
	if (bpf_ringbuf_output(&records, record, sizeof(*record), flags) == 0)
		return;
	if (detail)
		__sync_fetch_and_add(&counts->lost_details, 1);
	else
		__sync_fetch_and_add(&counts->lost_observations, 1);
}

static __always_inline bool udp_wanted(void)
{
	__u32 zero = 0;
	struct network_settings *set = bpf_map_lookup_elem(&settings, &zero);

	return set && set->udp_wanted;
}

static __always_inline void describe_current(struct owner *owner)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	owner->pid = bpf_get_current_pid_tgid() >> 32;
	owner->uid = (__u32)bpf_get_current_uid_gid();
	owner->start_boottime_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	BPF_CORE_READ_STR_INTO(&owner->comm, task, group_leader, comm);
}

static __always_inline void name_owner(struct connection_record *record, const struct owner *owner)
{
	record->pid = owner->pid;
	record->uid = owner->uid;
	record->start_boottime_ns = owner->start_boottime_ns;
	__builtin_memcpy(record->comm, owner->comm, sizeof(record->comm));
}

/*
 * Both addresses and ports. When the peer has reset the connection, the socket has lost its bound
 * port (skc_num) while inet_sport still has it.
 */
static __always_inline bool name_ends(struct connection_record *record, const struct sock *sk)
{
	const struct inet_sock *inet = (const struct inet_sock *)sk;

	record->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	record->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	if (record->local_port == 0)
		record->local_port = bpf_ntohs(BPF_CORE_READ(inet, inet_sport));
	record->remote_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	record->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);

	if (record->family == AF_INET) {
		__be32 local = BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr);
		__be32 remote = BPF_CORE_READ(sk, __sk_common.skc_daddr);
		__builtin_memcpy(record->local, &local, sizeof(local));
		__builtin_memcpy(record->remote, &remote, sizeof(remote));
		return true;
	}
	if (record->family == AF_INET6) {
		BPF_CORE_READ_INTO(&record->local, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&record->remote, sk, __sk_common.skc_v6_daddr);
		return true;
	}
	return false;
}

/*
 * The peer's initial sequence number of an accepted connection: bytes_received counts everything
 * rcv_nxt went past after the SYN, a FIN included (tcp_rcv_nxt_update).
 */
static __always_inline __u32 peer_isn(const struct sock *sk)
{
	const struct tcp_sock *tcp = (const struct tcp_sock *)sk;
	return BPF_CORE_READ(tcp, rcv_nxt) - 1 - (__u32)BPF_CORE_READ(tcp, bytes_received);
}

/*
 * The same for who does not hold the socket: the two are written one after the other, and while data
 * arrives on another CPU one may be seen without the other. Reads until two readings agree.
 */
static __always_inline __u32 settled_peer_isn(const struct sock *sk)
{
	__u32 isn = peer_isn(sk);

	for (int i = 1; i < PEER_ISN_READINGS; i++) {
		__u32 before = isn;
		isn = peer_isn(sk);
		if (isn == before)
			break;
	}
	return isn;
}

static __always_inline void report_attempt(const struct sock *sk, struct owner *owner)
{
	struct connection_record record = {};

	if (!name_ends(&record, sk) || record.local_port == 0)
		return;
	name_owner(&record, owner);
	record.isn = owner->isn;
	owner->reported = 1;
	send(&record, RECORD_CONNECT);
}

static __always_inline void connect_begins(const struct sock *sk)
{
	__u64 key = (__u64)sk;
	struct owner owner = {};

	describe_current(&owner);
	bpf_map_update_elem(&connecting, &key, &owner, BPF_ANY);
}

static __always_inline void connect_ends(const struct sock *sk, int state)
{
	__u64 key = (__u64)sk;
	struct owner *found = bpf_map_lookup_elem(&connecting, &key);
	if (!found)
		return;
	struct owner owner = *found;
	bpf_map_delete_elem(&connecting, &key);

	bool established = state == BPF_TCP_ESTABLISHED;
	if (!owner.reported) {
		const struct tcp_sock *tcp = (const struct tcp_sock *)sk;
		owner.isn = BPF_CORE_READ(tcp, snd_una) - (established ? 1 : 0);
		report_attempt(sk, &owner);
	}

	struct connection_record record = {};
	if (!name_ends(&record, sk) || record.local_port == 0)
		return;
	name_owner(&record, &owner);
	record.isn = owner.isn;
	/* A socket closed by its own process has no error: not established, not refused. */
	record.error = established ? 0 : BPF_CORE_READ(sk, sk_err);
	if (established || record.error)
		send(&record, RECORD_OUTCOME);
}

static __always_inline void handshake_ends(const struct sock *sk)
{
	struct connection_record record = {};
	__u64 key = (__u64)sk;
	struct handshake handshake = {
		.ended_ns = bpf_ktime_get_boot_ns(),
		.isn = peer_isn(sk),
	};

	bpf_map_update_elem(&unaccepted, &key, &handshake, BPF_ANY);
	if (!name_ends(&record, sk))
		return;
	record.isn = handshake.isn;
	record.established_ns = handshake.ended_ns;
	send(&record, RECORD_ESTABLISHED);
}

SEC(TRACEPOINT "inet_sock_set_state")
int BPF_PROG(on_set_state, const struct sock *sk, int old_state, int new_state)
{
	if (old_state == BPF_TCP_SYN_SENT) {
		if (BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP)
			connect_ends(sk, new_state);
	} else if (new_state == BPF_TCP_SYN_SENT) {
		if (BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP)
			connect_begins(sk);
	} else if (old_state == BPF_TCP_SYN_RECV && new_state == BPF_TCP_ESTABLISHED) {
		if (BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP)
			handshake_ends(sk);
	}
	return 0;
}

SEC("sockops")
int on_sock_ops(struct bpf_sock_ops *ops)
{
	if (ops->op != SOCK_OPS_TCP_CONNECT_CB)
		return 1;
	struct bpf_sock *full = ops->sk;
	if (!full)
		return 1;
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(full);
	if (!tcp)
		return 1;
	__u64 key = (__u64)tcp;
	struct owner *owner = bpf_map_lookup_elem(&connecting, &key);
	if (!owner || owner->reported)
		return 1;
	owner->isn = BPF_CORE_READ(tcp, write_seq);
	report_attempt((const struct sock *)tcp, owner);
	return 1;
}

static __always_inline void accepted(const struct sock *sk)
{
	if (!sk || BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return;

	struct connection_record record = {};
	if (!name_ends(&record, sk) || record.remote_port == 0)
		return;
	struct owner owner = {};
	describe_current(&owner);
	name_owner(&record, &owner);
	__u64 key = (__u64)sk;
	struct handshake *handshake = bpf_map_lookup_elem(&unaccepted, &key);
	if (handshake) {
		/* Read while the socket was held, so the same that the handshake was reported with. */
		record.isn = handshake->isn;
		record.established_ns = handshake->ended_ns;
		bpf_map_delete_elem(&unaccepted, &key);
	} else {
		record.isn = settled_peer_isn(sk);
	}
	send(&record, RECORD_ACCEPT);
}

static __always_inline int accepted_as(long fd)
{
	if (fd < 0)
		return 0;
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	if (fd >= BPF_CORE_READ(table, max_fds))
		return 0;
	struct file **slots = BPF_CORE_READ(table, fd);
	struct file *file = NULL;
	bpf_probe_read_kernel(&file, sizeof(file), &slots[fd]);
	struct socket *socket = BPF_CORE_READ(file, private_data);
	accepted(BPF_CORE_READ(socket, sk));
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_accept")
int on_accept(struct trace_event_raw_sys_exit *context)
{
	return accepted_as(context->ret);
}

SEC("tracepoint/syscalls/sys_exit_accept4")
int on_accept4(struct trace_event_raw_sys_exit *context)
{
	return accepted_as(context->ret);
}

/*
 * Before Linux 5.15 the hooks above end with the process that attached them; where functions can be
 * hooked, this one stands in for both and is kept like all others. The function has other arguments
 * since 6.10, where it is not loaded.
 */
SEC("fexit/inet_csk_accept")
int BPF_PROG(on_csk_accept, struct sock *listener, int flags, int *error, __u64 kern,
	     struct sock *sk)
{
	/* A bool: what is above its byte in the register is not defined. */
	if (!(__u8)kern)
		accepted(sk);
	return 0;
}

static __always_inline void report_send(struct connection_record *record, __u64 socket)
{
	struct flow_key key = { .socket = socket, .remote_port = record->remote_port };
	__u64 now = bpf_ktime_get_boot_ns();

	if (record->remote_port == 0 || record->local_port == 0)
		return;
	__builtin_memcpy(key.remote, record->remote, sizeof(key.remote));
	__u64 *last = bpf_map_lookup_elem(&flows, &key);
	if (last && now - *last < UDP_REPEAT_NS)
		return;
	bpf_map_update_elem(&flows, &key, &now, BPF_ANY);

	struct owner owner = {};
	describe_current(&owner);
	name_owner(record, &owner);
	send(record, RECORD_UDP_SEND);
}

/* Connected UDP sockets; the tracepoint exists since Linux 6.3. */
SEC(TRACEPOINT "sock_send_length")
int BPF_PROG(on_send_length, struct sock *sk)
{
	struct connection_record record = {};

	if (!udp_wanted() || BPF_CORE_READ(sk, sk_protocol) != IPPROTO_UDP)
		return 0;
	if (name_ends(&record, sk))
		report_send(&record, (__u64)sk);
	return 0;
}

/* The same before, where functions can be hooked. */
static __always_inline int sent(struct sock *sk, struct msghdr *message, int bytes)
{
	struct connection_record record = {};

	if (!udp_wanted() || bytes < 0 || BPF_CORE_READ(message, msg_name) ||
	    BPF_CORE_READ(sk, sk_protocol) != IPPROTO_UDP)
		return 0;
	if (name_ends(&record, sk))
		report_send(&record, (__u64)sk);
	return 0;
}

SEC("fexit/udp_sendmsg")
int BPF_PROG(on_udp_sendmsg, struct sock *sk, struct msghdr *message, size_t length, int bytes)
{
	return sent(sk, message, bytes);
}

SEC("fexit/udpv6_sendmsg")
int BPF_PROG(on_udpv6_sendmsg, struct sock *sk, struct msghdr *message, size_t length, int bytes)
{
	return sent(sk, message, bytes);
}

/* UDP sockets that name the peer with every datagram. */
SEC("cgroup/sendmsg4")
int on_sendmsg4(struct bpf_sock_addr *context)
{
	struct connection_record record = { .family = AF_INET };

	if (!udp_wanted() || !context->sk)
		return 1;
	__u32 local = context->msg_src_ip4;
	__u32 remote = context->user_ip4;
	__builtin_memcpy(record.local, &local, sizeof(local));
	__builtin_memcpy(record.remote, &remote, sizeof(remote));
	record.local_port = context->sk->src_port;
	record.remote_port = bpf_ntohs(context->user_port);
	report_send(&record, bpf_get_socket_cookie(context));
	return 1;
}

SEC("cgroup/sendmsg6")
int on_sendmsg6(struct bpf_sock_addr *context)
{
	struct connection_record record = { .family = AF_INET6 };

	if (!udp_wanted() || !context->sk)
		return 1;
	__u32 local[4] = { context->msg_src_ip6[0], context->msg_src_ip6[1],
			   context->msg_src_ip6[2], context->msg_src_ip6[3] };
	__u32 remote[4] = { context->user_ip6[0], context->user_ip6[1],
			    context->user_ip6[2], context->user_ip6[3] };
	__builtin_memcpy(record.local, local, sizeof(local));
	__builtin_memcpy(record.remote, remote, sizeof(remote));
	record.local_port = context->sk->src_port;
	record.remote_port = bpf_ntohs(context->user_port);
	report_send(&record, bpf_get_socket_cookie(context));
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
