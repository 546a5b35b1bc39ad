/** Every read and write the pages make, as hooks. */

import {
  keepPreviousData,
  useInfiniteQuery,
  useMutation,
  useQuery,
  useQueryClient,
} from "@tanstack/react-query";

import { ApiError, del, get, post, setCsrfToken } from "./client";
import type { Params } from "./client";
import type {
  AlertDetail,
  AlertPage,
  AlertStatus,
  Bucket,
  EventPage,
  Host,
  HostBooks,
  HostDetail,
  Inventory,
  JoinToken,
  Overview,
  ServerStatus,
  Session,
} from "./types";

const REFRESH_MS = 15_000;
export const ALERT_PAGE = 50;
export const EVENT_PAGE = 50;

export const useStatus = () =>
  useQuery({ queryKey: ["status"], queryFn: () => get<ServerStatus>("/status") });

/** Who is signed in; `null` when nobody is. */
export const useSession = () =>
  useQuery({
    queryKey: ["session"],
    staleTime: Infinity,
    queryFn: async () => {
      try {
        const session = await get<Session>("/session");
        setCsrfToken(session.csrf_token);
        return session;
      } catch (error) {
        if (error instanceof ApiError && error.status === 401) return null;
        throw error;
      }
    },
  });

export function useSignIn() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (body: { username: string; password: string }) => post<Session>("/session", body),
    onSuccess: (session) => {
      setCsrfToken(session.csrf_token);
      client.setQueryData(["session"], session);
    },
  });
}

export function useSetup() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (body: { setup_code: string; username: string; password: string }) =>
      post<unknown>("/setup", body),
    onSuccess: () => client.invalidateQueries({ queryKey: ["status"] }),
  });
}

export function useSignOut() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: () => del<void>("/session"),
    onSettled: () => {
      setCsrfToken("");
      client.clear();
      client.setQueryData(["session"], null);
    },
  });
}

export const useOverview = () =>
  useQuery({
    queryKey: ["overview"],
    queryFn: () => get<Overview>("/overview"),
    refetchInterval: REFRESH_MS,
  });

/** Whether the server only observes; known from the first page on. */
export function useLearn(): boolean {
  const status = useStatus().data;
  const overview = useOverview().data;
  return overview?.learn ?? status?.learn ?? false;
}

export const useBooks = () =>
  useQuery({
    queryKey: ["ledger"],
    queryFn: async () => (await get<{ hosts: HostBooks[] }>("/ledger")).hosts,
    refetchInterval: REFRESH_MS,
  });

export const useHosts = (refreshMs = REFRESH_MS) =>
  useQuery({
    queryKey: ["hosts"],
    queryFn: async () => (await get<{ hosts: Host[] }>("/hosts")).hosts,
    refetchInterval: refreshMs,
  });

export const useHost = (id: string) =>
  useQuery({
    queryKey: ["host", id],
    queryFn: () => get<HostDetail>(`/hosts/${encodeURIComponent(id)}`),
    refetchInterval: REFRESH_MS,
  });

export const useInventory = (id: string, type: string) =>
  useQuery({
    queryKey: ["inventory", id, type],
    queryFn: () =>
      get<Inventory>(`/hosts/${encodeURIComponent(id)}/inventories/${encodeURIComponent(type)}`),
  });

export function useRevoke(id: string) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: () => post<void>(`/hosts/${encodeURIComponent(id)}/revoke`),
    onSuccess: () => client.invalidateQueries({ queryKey: ["hosts"] }),
  });
}

export const useCreateToken = () =>
  useMutation({
    mutationFn: (body: { ttl_secs: number; uses: number }) => post<JoinToken>("/tokens", body),
  });

export const useAlerts = (params: Params) =>
  useQuery({
    queryKey: ["alerts", params],
    queryFn: () => get<AlertPage>("/alerts", params),
    placeholderData: keepPreviousData,
  });

/** How many alerts there are now, asked beside the list so that the list itself stays still. */
export const useAlertTotal = (params: Params) =>
  useQuery({
    queryKey: ["alert-total", params],
    queryFn: async () =>
      (await get<{ total: number }>("/alerts", { ...params, offset: 0, limit: 1 })).total,
    refetchInterval: REFRESH_MS / 2,
  });

export const useAlert = (id: string) =>
  useQuery({
    queryKey: ["alert", id],
    queryFn: () => get<AlertDetail>(`/alerts/${encodeURIComponent(id)}`),
  });

export function useSetAlertStatus() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (body: { ids: string[]; status: AlertStatus }) =>
      post<{ changed: number }>("/alerts/status", body),
    onSettled: () =>
      Promise.all(
        ["alerts", "alert-total", "alert", "overview", "hosts"].map((key) =>
          client.invalidateQueries({ queryKey: [key] }),
        ),
      ),
  });
}

export const useEvents = (params: Params, enabled: boolean) =>
  useInfiniteQuery({
    queryKey: ["events", params],
    enabled,
    staleTime: Infinity,
    initialPageParam: "",
    queryFn: ({ pageParam }) =>
      get<EventPage>("/events", { ...params, cursor: pageParam, limit: EVENT_PAGE }),
    getNextPageParam: (page) => page.next ?? undefined,
  });

export const useHistogram = (params: Params, enabled: boolean) =>
  useQuery({
    queryKey: ["histogram", params],
    enabled,
    staleTime: Infinity,
    queryFn: async () => (await get<{ buckets: Bucket[] }>("/events/histogram", params)).buckets,
  });

export const useSuggestions = (params: Params, enabled: boolean) =>
  useQuery({
    queryKey: ["suggest", params],
    enabled,
    staleTime: 30_000,
    retry: false,
    placeholderData: keepPreviousData,
    queryFn: () => get<{ fields: string[]; values: string[] }>("/suggest", params),
  });
