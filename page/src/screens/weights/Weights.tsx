import { Center, Loader, Stack, Text, Title } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { Fault } from "../../components/Fault";
import { useIsAdmin } from "../../lib/me";
import { ModelCard } from "./ModelCard";
import { useWeights } from "./queries";

/** The models: which are here, and how to get the others. */
export function Weights() {
  const { t } = useTranslation(["weights", "common"]);
  const weights = useWeights();
  const admin = useIsAdmin();
  return (
    <Stack maw={900} gap="md">
      <div>
        <Title order={1} size="h3">
          {t("title")}
        </Title>
        <Text size="sm" c="dimmed" mt={4}>
          {t("about")} {!admin && t("askAdmin")}
        </Text>
      </div>
      {weights.isError && !weights.data && (
        <Fault error={weights.error} again={() => void weights.refetch()} />
      )}
      {weights.isPending && (
        <Center h="30vh">
          <Loader aria-label={t("common:loading")} />
        </Center>
      )}
      {weights.data?.map((model) => <ModelCard key={model.name} model={model} admin={admin} />)}
    </Stack>
  );
}
