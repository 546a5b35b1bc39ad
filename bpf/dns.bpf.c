/* SPDX-License-Identifier: GPL-2.0-or-later OR Apache-2.0 */
/*
 * Questions to the domain name system and their answers, with the process that asks.
 *
 * The packets themselves are taken, where sockets of the root control group and all below it hand
 * them over: in every network namespace, on every interface, loopback included. What is forwarded
 * for others has no socket here and is not seen.
 *
 * Out to port 53: a question, of the task that sends; for TCP, whose segments may leave in soft
 * interrupt context, of the task that connected. In from port 53: an answer, to be joined by the
 * socket's cookie. Packets leave after address translation and arrive before the socket sees them,
 * that is, translated back: where port 53 is translated to another one (the resolver of Docker),
 * only the answer is seen, and whose it is says who named the server when the socket was used.
 * Answers out from port 53 only tell which process is a resolver.
 */
#include "include/vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "include/abi.h"

#define DNS_PORT 53
/*
 * A record is built in the ring itself, because a program may be interrupted by another one on its
 * CPU; room can be reserved in sizes known beforehand only.
 */
#define SMALL_PAYLOAD_BYTES 136
#define MEDIUM_PAYLOAD_BYTES 512
#define PAYLOAD_BYTES 4096
#define RING_BYTES (2 * 1024 * 1024)
/*
 * As in wake.h: the reader is woken once per period at most, because that costs several times what a
 * program does besides. One that found nothing for a while sleeps until then; one that lets the ring
 * fill is woken earlier, but not again and again before it had its turn.
 */
#define WAKE_BYTES (64 * 1024)
#define WAKE_PERIOD_NS 50000000ULL
#define WAKE_MINIMUM_NS 1000000ULL
#define SOCKETS 16384
#define RESOLVERS 256

enum dns_record_type {
	RECORD_DNS_SENT = 48,
	RECORD_DNS_RECEIVED = 49,
};

enum dns_flags {
	/* The sender answers questions of others. */
	DNS_RESOLVER = 1,
};

/* Addresses of IPv4 are in the first four bytes. The payload follows. */
struct dns_record {
	struct record_header header;
	__u64 cookie;
	__u64 cgroup_id;
	__u64 start_boottime_ns;
	__u32 pid;
	__u32 uid;
	__u32 tcp_seq; /* of the first byte of the payload; 0 for UDP */
	__u16 family;
	__u16 local_port;
	__u16 remote_port;
	__u8 protocol;
	__u8 flags;
	__u32 length; /* of the payload as it was sent; as much of it follows as the record has room */
	__u8 local[16];
	__u8 remote[16];
	char comm[16];
};

_Static_assert(sizeof(struct dns_record) == 120, "record layout");

struct owner {
	__u64 start_boottime_ns;
	__u64 cgroup_id;
	__u32 pid;
	__u32 uid;
	char comm[16];
	__u32 seen; /* a question was seen on its way out */
	__u32 reserved;
};

/* User-space interface, fixed layout (uapi/linux/bpf.h). */
struct __sk_buff {
	__u32 len;
	__u32 others[18];
	__u32 data;
	__u32 data_end;
};

_Static_assert(__builtin_offsetof(struct __sk_buff, data) == 76, "user-space interface");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING_BYTES);
} records SEC(".maps");

/* Sockets that were told to talk to port 53: who told them. By cookie. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, SOCKETS);
	__type(key, __u64);
	__type(value, struct owner);
} sockets SEC(".maps");

/* Processes that serve port 53, by pid: when they started. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, RESOLVERS);
	__type(key, __u32);
	__type(value, __u64);
} resolvers SEC(".maps");

/* Since the programs were loaded. */
struct dns_counters {
	__u64 seq;
	/* Packets sent and received that are payload, and of them those that found the ring full. */
	__u64 sent;
	__u64 received;
	__u64 lost_sent;
	__u64 lost_received;
	/* Those that found the ring crowded, and were of a group that had its share (share.h). */
	__u64 shed_sent;
	__u64 shed_received;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct dns_counters);
} counters SEC(".maps");

/* Written by the agent: whether anything is wanted. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} settings SEC(".maps");

static volatile __u64 last_wake_ns;

static __always_inline bool wanted(void)
{
	__u32 zero = 0;
	__u64 *set = bpf_map_lookup_elem(&settings, &zero);

	return set && *set;
}

static __always_inline void describe_current(struct owner *owner)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	owner->pid = BPF_CORE_READ(task, tgid);
	owner->uid = BPF_CORE_READ(task, cred, uid.val);
	owner->start_boottime_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	BPF_CORE_READ_STR_INTO(&owner->comm, task, group_leader, comm);
}

static __always_inline void serves(void)
{
	struct owner owner = {};

	describe_current(&owner);
	bpf_map_update_elem(&resolvers, &owner.pid, &owner.start_boottime_ns, BPF_ANY);
}

/* What a packet is, read from its first bytes. */
struct packet {
	__u32 payload; /* where it begins */
	__u32 length;
	__u32 tcp_seq;
	__u16 source_port;
	__u16 destination_port;
	__u16 family;
	__u8 protocol;
	__u8 source[16];
	__u8 destination[16];
};

struct ipv4_header {
	__u8 version_words;
	__u8 tos;
	__be16 total;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__u16 checksum;
	__u8 source[4];
	__u8 destination[4];
};

struct ipv6_header {
	__u8 version_class;
	__u8 flow[3];
	__be16 length;
	__u8 next;
	__u8 hops;
	__u8 source[16];
	__u8 destination[16];
};

/*
 * False when a packet has nothing to do with port 53: nearly all of them, so this looks at what lies
 * in one piece and calls nothing. True when it has, or when the ports are not where they mostly are.
 */
static __always_inline bool may_concern(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ipv6_header *six = data;
	struct ipv4_header *four = data;
	__be16 *ports;
	__u8 protocol;

	if ((void *)(four + 1) > end)
		return true;
	if (four->version_words >> 4 == 4) {
		ports = data + (four->version_words & 15) * 4;
		protocol = four->protocol;
	} else {
		if ((void *)(six + 1) > end)
			return true;
		ports = (void *)(six + 1);
		protocol = six->next;
		if (protocol == 0 || protocol == 43 || protocol == 60)
			return true;
	}
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP)
		return false;
	if ((void *)(ports + 2) > end)
		return true;
	return ports[0] == bpf_htons(DNS_PORT) || ports[1] == bpf_htons(DNS_PORT);
}

/* Reads the headers; false when it is nothing to or from port 53. */
static __always_inline bool dissect(struct __sk_buff *skb, struct packet *packet)
{
	__u8 version = 0;
	__u32 at;

	if (bpf_skb_load_bytes(skb, 0, &version, 1))
		return false;
	if (version >> 4 == 4) {
		struct ipv4_header ip;

		if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
			return false;
		if (ip.protocol != IPPROTO_UDP && ip.protocol != IPPROTO_TCP)
			return false;
		/* Sockets see datagrams whole; a later fragment has no ports. */
		if (bpf_ntohs(ip.fragment) & 0x1fff)
			return false;
		packet->family = AF_INET;
		packet->protocol = ip.protocol;
		__builtin_memcpy(packet->source, ip.source, sizeof(ip.source));
		__builtin_memcpy(packet->destination, ip.destination, sizeof(ip.destination));
		at = (ip.version_words & 15) * 4;
	} else if (version >> 4 == 6) {
		struct ipv6_header ip;
		__u8 option[2];

		if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
			return false;
		at = sizeof(ip);
		/* Hop-by-hop, routing, destination options. */
#pragma unroll
		for (int i = 0; i < 3; i++) {
			if (ip.next != 0 && ip.next != 43 && ip.next != 60)
				break;
			if (bpf_skb_load_bytes(skb, at, option, sizeof(option)))
				return false;
			ip.next = option[0];
			at += (option[1] + 1) * 8;
		}
		if (ip.next != IPPROTO_UDP && ip.next != IPPROTO_TCP)
			return false;
		packet->family = AF_INET6;
		packet->protocol = ip.next;
		__builtin_memcpy(packet->source, ip.source, sizeof(ip.source));
		__builtin_memcpy(packet->destination, ip.destination, sizeof(ip.destination));
	} else {
		return false;
	}

	__be16 ports[2];
	if (bpf_skb_load_bytes(skb, at, ports, sizeof(ports)))
		return false;
	packet->source_port = bpf_ntohs(ports[0]);
	packet->destination_port = bpf_ntohs(ports[1]);
	if (packet->source_port != DNS_PORT && packet->destination_port != DNS_PORT)
		return false;
	if (packet->protocol == IPPROTO_UDP) {
		packet->payload = at + 8;
	} else {
		__be32 seq;
		__u8 words;

		if (bpf_skb_load_bytes(skb, at + 4, &seq, sizeof(seq)) ||
		    bpf_skb_load_bytes(skb, at + 12, &words, sizeof(words)))
			return false;
		packet->tcp_seq = bpf_ntohl(seq);
		packet->payload = at + (words >> 4) * 4;
	}
	if (skb->len <= packet->payload)
		return false;
	packet->length = skb->len - packet->payload;
	return true;
}

static __always_inline void begin(struct __sk_buff *skb, const struct packet *packet,
				  struct dns_record *record)
{
	record->cookie = bpf_get_socket_cookie(skb);
	record->family = packet->family;
	record->protocol = packet->protocol;
	record->tcp_seq = packet->tcp_seq;
	record->length = packet->length;
}

/* Sends with room for so much payload; false when the ring has none. */
static __always_inline bool send_sized(struct __sk_buff *skb, const struct packet *packet,
				       struct dns_record *record, __u32 room)
{
	__u64 bytes = packet->length;
	struct dns_record *place = bpf_ringbuf_reserve(&records, sizeof(*record) + room, 0);

	if (!place)
		return false;
	if (bytes > room)
		bytes = room;
	record->header.size = sizeof(*record) + bytes;
	*place = *record;
	/* Both bounds, apart, as the verifier of every kernel wants to see them. */
	asm volatile("" : "+r"(bytes));
	if (bytes > room)
		goto discard;
	asm volatile("" : "+r"(bytes));
	if ((__s64)bytes <= 0)
		goto discard;
	if (bpf_skb_load_bytes(skb, packet->payload, place + 1, bytes))
		goto discard;
	__u64 since = record->header.ts_boot_ns - last_wake_ns;
	__u64 flags = BPF_RB_NO_WAKEUP;
	if (since >= WAKE_PERIOD_NS ||
	    (since >= WAKE_MINIMUM_NS &&
	     bpf_ringbuf_query(&records, BPF_RB_AVAIL_DATA) >= WAKE_BYTES)) {
		last_wake_ns = record->header.ts_boot_ns;
		flags = BPF_RB_FORCE_WAKEUP;
	}
	bpf_ringbuf_submit(place, flags);
	return true;
discard:
	bpf_ringbuf_discard(place, BPF_RB_NO_WAKEUP);
	return false;
}

#define SHARE_RING records
#include "include/share.h"

/* A lost answer costs its event the answer only, a lost question the event. */
static __always_inline bool shed(struct __sk_buff *skb, const struct dns_record *record, __u32 room,
				 bool sent)
{
	__u64 free = share_crowded();
	__u32 flags = sent ? 0 : SHARE_CHEAP | SHARE_UNCOUNTED;
	__u32 bytes = sizeof(*record) + room;

	if (!free)
		return false;
	if (bpf_skb_ancestor_cgroup_id(skb, 1)) {
		__u64 id = bpf_skb_ancestor_cgroup_id(skb, SHARE_LEVEL);

		if (!id)
			id = bpf_skb_cgroup_id(skb);
		return share_sheds(share_group(SHARE_CGROUP, id), free, bytes, flags);
	}
	if (sent && share_is_current(record->pid))
		return share_sheds(share_of_current(), free, bytes, flags);
	return share_sheds(share_group(sent ? SHARE_USER : SHARE_OTHERS, record->uid), free, bytes,
			   flags);
}

static __always_inline void send(struct __sk_buff *skb, const struct packet *packet,
				 struct dns_record *record, bool sent)
{
	__u32 zero = 0;
	struct dns_counters *counts = bpf_map_lookup_elem(&counters, &zero);
	__u32 room = PAYLOAD_BYTES;
	bool done;

	if (!counts)
		return;
	__sync_fetch_and_add(sent ? &counts->sent : &counts->received, 1);
	__sync_fetch_and_add(&counts->seq, 1);
	record->header.seq = counts->seq;
	record->header.ts_boot_ns = bpf_ktime_get_boot_ns();
	record->header.type = sent ? RECORD_DNS_SENT : RECORD_DNS_RECEIVED;
	record->header.cpu = bpf_get_smp_processor_id();
	if (packet->length <= SMALL_PAYLOAD_BYTES)
		room = SMALL_PAYLOAD_BYTES;
	else if (packet->length <= MEDIUM_PAYLOAD_BYTES)
		room = MEDIUM_PAYLOAD_BYTES;
	if (shed(skb, record, room, sent)) {
		__sync_fetch_and_add(sent ? &counts->shed_sent : &counts->shed_received, 1);
		return;
	}
	if (packet->length <= SMALL_PAYLOAD_BYTES)
		done = send_sized(skb, packet, record, SMALL_PAYLOAD_BYTES);
	else if (packet->length <= MEDIUM_PAYLOAD_BYTES)
		done = send_sized(skb, packet, record, MEDIUM_PAYLOAD_BYTES);
	else
		done = send_sized(skb, packet, record, PAYLOAD_BYTES);
	if (!done)
		__sync_fetch_and_add(sent ? &counts->lost_sent : &counts->lost_received, 1);
}

static __always_inline void name_asker(struct __sk_buff *skb, struct dns_record *record,
				       const struct owner *owner)
{
	__u32 pid = owner->pid;
	__u64 *since = bpf_map_lookup_elem(&resolvers, &pid);

	record->pid = pid;
	record->uid = owner->uid;
	record->start_boottime_ns = owner->start_boottime_ns;
	record->cgroup_id = bpf_skb_cgroup_id(skb);
	__builtin_memcpy(record->comm, owner->comm, sizeof(record->comm));
	if (since && *since == owner->start_boottime_ns)
		record->flags = DNS_RESOLVER;
}

SEC("cgroup_skb/egress")
int on_egress(struct __sk_buff *skb)
{
	if (!may_concern(skb) || !wanted())
		return 1;
	struct packet packet = {};
	if (!dissect(skb, &packet))
		return 1;
	if (packet.destination_port != DNS_PORT) {
		if (packet.protocol == IPPROTO_UDP)
			serves();
		return 1;
	}
	struct dns_record record = {};
	begin(skb, &packet, &record);
	struct owner owner = {};
	__u64 cookie = record.cookie;
	struct owner *known = bpf_map_lookup_elem(&sockets, &cookie);
	if (known)
		known->seen = 1;
	if (known && packet.protocol == IPPROTO_TCP)
		owner = *known;
	else
		describe_current(&owner);
	name_asker(skb, &record, &owner);
	record.local_port = packet.source_port;
	record.remote_port = packet.destination_port;
	__builtin_memcpy(record.local, packet.source, sizeof(record.local));
	__builtin_memcpy(record.remote, packet.destination, sizeof(record.remote));
	send(skb, &packet, &record, true);
	return 1;
}

SEC("cgroup_skb/ingress")
int on_ingress(struct __sk_buff *skb)
{
	if (!may_concern(skb) || !wanted())
		return 1;
	struct packet packet = {};
	if (!dissect(skb, &packet) || packet.source_port != DNS_PORT)
		return 1;
	struct dns_record record = {};
	begin(skb, &packet, &record);
	__u64 cookie = record.cookie;
	struct owner *known = bpf_map_lookup_elem(&sockets, &cookie);
	if (known && !known->seen)
		name_asker(skb, &record, known);
	record.local_port = packet.destination_port;
	record.remote_port = packet.source_port;
	__builtin_memcpy(record.local, packet.destination, sizeof(record.local));
	__builtin_memcpy(record.remote, packet.source, sizeof(record.remote));
	send(skb, &packet, &record, false);
	return 1;
}

static __always_inline int names_server(struct bpf_sock_addr *context)
{
	if (context->user_port != bpf_htons(DNS_PORT) || !wanted())
		return 1;
	__u64 cookie = bpf_get_socket_cookie(context);
	struct owner *known = bpf_map_lookup_elem(&sockets, &cookie);
	struct owner owner = {};

	describe_current(&owner);
	if (known)
		owner.seen = known->seen;
	bpf_map_update_elem(&sockets, &cookie, &owner, BPF_ANY);
	return 1;
}

SEC("cgroup/connect4")
int on_connect4(struct bpf_sock_addr *context)
{
	return names_server(context);
}

SEC("cgroup/connect6")
int on_connect6(struct bpf_sock_addr *context)
{
	return names_server(context);
}

SEC("cgroup/sendmsg4")
int on_sendmsg4(struct bpf_sock_addr *context)
{
	return names_server(context);
}

SEC("cgroup/sendmsg6")
int on_sendmsg6(struct bpf_sock_addr *context)
{
	return names_server(context);
}

SEC("cgroup/post_bind4")
int on_bind4(struct bpf_sock *sk)
{
	if (sk->src_port == DNS_PORT)
		serves();
	return 1;
}

SEC("cgroup/post_bind6")
int on_bind6(struct bpf_sock *sk)
{
	if (sk->src_port == DNS_PORT)
		serves();
	return 1;
}

char LICENSE[] SEC("license") = "GPL";
