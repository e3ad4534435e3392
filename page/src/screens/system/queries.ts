import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { api, body, type Shapes } from "../../api/client";
import { problem } from "../../components/notify";

export type Queue = Shapes["Queue"];
export type Token = Shapes["Token"];
export type NewToken = Shapes["NewToken"];

/** A worker that shall take no more, or that may work again. */
export function useDraining(name: string) {
  const queries = useQueryClient();
  const path = { params: { path: { name } } };
  const after = {
    onSettled: () => queries.invalidateQueries({ queryKey: ["workers"] }),
    onError: problem,
  };
  const drain = useMutation({ mutationFn: () => api.POST("/api/v1/workers/{name}/drain", path), ...after });
  const undrain = useMutation({ mutationFn: () => api.DELETE("/api/v1/workers/{name}/drain", path), ...after });
  return { drain, undrain };
}

export function useQueues() {
  return useQuery({
    queryKey: ["queues"],
    queryFn: async () => (await body(api.GET("/api/v1/queues"))).queues,
    refetchInterval: 5000,
  });
}

export function useQueueSwitch(name: Queue["name"]) {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: async (verb: "pause" | "resume") =>
      (await body(api.POST(`/api/v1/queues/{name}/${verb}`, { params: { path: { name } } }))).queues,
    onSuccess: (queues) => queries.setQueryData(["queues"], queues),
    onError: problem,
  });
}

export function useUsage() {
  return useQuery({
    queryKey: ["usage"],
    queryFn: () => body(api.GET("/api/v1/usage")),
    refetchInterval: 15_000,
  });
}

export function useTokens() {
  return useQuery({
    queryKey: ["tokens"],
    queryFn: async () => (await body(api.GET("/api/v1/tokens"))).tokens,
  });
}

export function useTokenChanges() {
  const queries = useQueryClient();
  const onSuccess = () => queries.invalidateQueries({ queryKey: ["tokens"] });
  const issue = useMutation({
    mutationFn: async (wanted: NewToken) => (await body(api.POST("/api/v1/tokens", { body: wanted }))).token,
    onSuccess,
  });
  const revoke = useMutation({
    mutationFn: (name: string) => api.DELETE("/api/v1/tokens/{name}", { params: { path: { name } } }),
    onSuccess,
    onError: problem,
  });
  return { issue, revoke };
}
