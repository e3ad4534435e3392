import { SimpleGrid, Stack, Title } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { Fault } from "../../components/Fault";
import { useSystem } from "../../lib/me";
import { Queues } from "./Queues";
import { Service } from "./Service";
import { Tokens } from "./Tokens";
import { Usage } from "./Usage";
import { Workers } from "./Workers";

/** Who works, what is left of the machine, what the user has taken, and keys for scripts. */
export function System() {
  const { t } = useTranslation("system");
  const system = useSystem();
  const admin = system.data?.me.admin ?? false;
  return (
    <Stack maw={1100} gap="md">
      <Title order={1} size="h3">
        {t("title")}
      </Title>
      <Workers admin={admin} />
      <Queues admin={admin} />
      {system.isError && !system.data && (
        <Fault error={system.error} again={() => void system.refetch()} />
      )}
      <SimpleGrid cols={{ base: 1, md: 2 }}>
        {system.data && <Service system={system.data} />}
        <Usage />
      </SimpleGrid>
      {admin && <Tokens />}
    </Stack>
  );
}
