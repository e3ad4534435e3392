import { useQuery } from "@tanstack/react-query";
import { api, body } from "../../api/client";

/** Whether none of the models that an engine can use is here. */
export function useMissing(engine: string): boolean {
  const weights = useQuery({ queryKey: ["weights"], queryFn: () => body(api.GET("/api/v1/weights")) });
  const its = weights.data?.weights.filter((one) => one.engines.includes(engine)) ?? [];
  return its.length > 0 && its.every((one) => one.state === "absent" || one.state === "partial");
}
