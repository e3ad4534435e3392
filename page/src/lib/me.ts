import { useQuery } from "@tanstack/react-query";
import { api, body } from "../api/client";

export function useSystem() {
  return useQuery({
    queryKey: ["system"],
    queryFn: () => body(api.GET("/api/v1/system")),
    refetchInterval: 15_000, // a disk fills without an event
  });
}

/** Whether who is signed in may change what is everybody's. */
export const useIsAdmin = () => useSystem().data?.me.admin ?? false;
