import { useQuery } from "@tanstack/react-query";
import { api, type Shapes } from "../api/client";
import { hearTime } from "./clock";

export type Worker = Shapes["Worker"];

const SILENT = 15e6; // microseconds after which nobody counts on a worker

export function useWorkers() {
  return useQuery({
    queryKey: ["workers", "list"],
    queryFn: async () => {
      const { data, response } = await api.GET("/api/v1/workers");
      hearTime(response);
      return data?.workers ?? [];
    },
    refetchInterval: 5000, // what they report makes no events
  });
}

/** Whether a worker is there; `now` in microseconds. */
export const isThere = (worker: Worker, now: number) =>
  worker.state !== "gone" && now - worker.beat < SILENT;

export const isSilent = (worker: Worker, now: number) =>
  worker.state !== "gone" && !isThere(worker, now);
