import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { api, body, type Shapes } from "../../api/client";
import { problem } from "../../components/notify";

export type Model = Shapes["Weights"];
export type Pull = Shapes["Pull"];
export type Origin = NonNullable<Shapes["NewPull"]["origin"]>;

const isPulled = (model: Model) => model.pull?.state === "running";

export function useWeights() {
  return useQuery({
    queryKey: ["weights"],
    queryFn: async () => (await body(api.GET("/api/v1/weights"))).weights,
    // events tell only those who began a pull
    refetchInterval: ({ state }) => (state.data?.some(isPulled) ? 1000 : false),
  });
}

export function usePulling(name: string) {
  const queries = useQueryClient();
  const path = { params: { path: { name } } };
  const onSettled = () => queries.invalidateQueries({ queryKey: ["weights"] });
  const start = useMutation({
    mutationFn: (origin: Origin) => api.POST("/api/v1/weights/{name}/pull", { ...path, body: { origin } }),
    onSettled,
    onError: problem,
  });
  const stop = useMutation({
    mutationFn: () => api.DELETE("/api/v1/weights/{name}/pull", path),
    onSettled,
    onError: problem,
  });
  return { start, stop };
}
