import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "react-router";
import { api, body } from "../../api/client";
import { problem } from "../../components/notify";

/** Takes the example film, which the service carries, for a new job. */
export function useExample() {
  const queries = useQueryClient();
  const navigate = useNavigate();
  return useMutation({
    mutationFn: () => body(api.POST("/api/v1/assets/example")),
    onSuccess: (asset) => {
      queries.setQueryData(["asset", asset.id], asset);
      void navigate(`/new?asset=${asset.id}`);
    },
    onError: problem,
  });
}
