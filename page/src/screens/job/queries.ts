import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { api, body, Problem, type Shapes } from "../../api/client";
import { listen } from "../../api/events";
import { hasEnded } from "../../components/jobActions";
import { hearTime } from "../../lib/clock";
import { after } from "./segments";

export type Job = Shapes["Job"];
export type Step = Shapes["Step"];

const at = (name: string) => ({ params: { path: { name } } });

export function useJob(id: string) {
  return useQuery({
    queryKey: ["job", id, "now"],
    queryFn: async () => {
      const { data, response } = await api.GET("/api/v1/jobs/{name}", at(id));
      hearTime(response);
      return data!;
    },
    refetchInterval: ({ state }) => (state.data && hasEnded(state.data) ? false : 10_000),
  });
}

/** Segments and the two steps around them, as events tell of them until they are asked for. */
export function useSteps(id: string) {
  const queries = useQueryClient();
  useEffect(
    () =>
      listen((told) => {
        if (told.job !== id) return;
        queries.setQueryData<Step[]>(["job", id, "segments"], (steps) => steps && after(steps, told));
      }),
    [id, queries],
  );
  return useQuery({
    queryKey: ["job", id, "segments"],
    queryFn: async () => (await body(api.GET("/api/v1/jobs/{name}/segments", at(id)))).segments,
  });
}

export function useAttempts(id: string) {
  return useQuery({
    queryKey: ["job", id, "attempts"],
    queryFn: async () => (await body(api.GET("/api/v1/jobs/{name}/attempts", at(id)))).attempts,
  });
}

export function usePlan(id: string) {
  return useQuery({
    queryKey: ["job", id, "plan"],
    queryFn: () => body(api.GET("/api/v1/jobs/{name}/plan", at(id))),
  });
}

/** A film; null where it is gone. */
export function useAsset(id: string | null) {
  return useQuery({
    queryKey: ["asset", id],
    enabled: id !== null,
    queryFn: async () => {
      try {
        return await body(api.GET("/api/v1/assets/{name}", at(id!)));
      } catch (error) {
        if (error instanceof Problem && error.status === 404) return null;
        throw error;
      }
    },
  });
}

export type Line = Shapes["LogLine"];

const MOST = 500; // lines at a time

/** The lines of the log, the new ones added to those that are here. None where it has no log. */
export function useLog(id: string) {
  const queries = useQueryClient();
  const key = ["job", id, "log"];
  return useQuery({
    queryKey: key,
    queryFn: async () => {
      const lines = [...(queries.getQueryData<Line[]>(key) ?? [])];
      for (;;) {
        const query = { after: lines.at(-1)?.id ?? 0, most: MOST };
        const found = await body(
          api.GET("/api/v1/jobs/{name}/log", { params: { path: { name: id }, query } }),
        );
        lines.push(...found.lines);
        if (found.lines.length < MOST) return lines;
      }
    },
  });
}
