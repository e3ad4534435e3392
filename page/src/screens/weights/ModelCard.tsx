import { Alert, Badge, Button, Collapse, Group, Paper, Stack, Table, Text, Title } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import {
  IconAlertTriangle, IconCircleCheck, IconCircleDashed, IconCircleHalf2, IconHelp,
} from "@tabler/icons-react";
import { useId } from "react";
import { useTranslation } from "react-i18next";
import { Facts } from "../../components/Facts";
import { Scroll } from "../../components/Scroll";
import { bytes } from "../../lib/format";
import { Fetch } from "./Fetch";
import { PullBar } from "./PullBar";
import type { Model } from "./queries";

const LOOKS = {
  whole: [IconCircleCheck, "var(--mantine-color-green-text)"],
  unchecked: [IconHelp, "var(--mantine-color-blue-text)"],
  partial: [IconCircleHalf2, "var(--mantine-color-yellow-text)"],
  absent: [IconCircleDashed, "var(--mantine-color-dimmed)"],
  damaged: [IconAlertTriangle, "var(--mantine-color-red-text)"],
} as const;

export function ModelCard({ model, admin }: { model: Model; admin: boolean }) {
  const { t, i18n } = useTranslation("weights");
  const id = useId();
  const [opened, { toggle }] = useDisclosure();
  const pulled = model.pull?.state === "running";
  const size = model.of === null ? t("unknownSize") : bytes(model.of, i18n.language);
  return (
    <Paper withBorder p="md" component="section" aria-labelledby={id}>
      <Stack gap="sm">
        <Group justify="space-between" align="flex-start" gap="sm">
          <div style={{ flex: "1 1 240px", minWidth: 0 }}>
            <Group gap="sm">
              <Title order={2} size="h5" id={id}>
                {model.name}
              </Title>
              <State state={model.state} />
            </Group>
            <Text size="sm" mt={2}>
              {model.about}
            </Text>
          </div>
          {admin && !pulled && model.state !== "whole" && <Fetch model={model} />}
        </Group>
        {model.error && (
          <Alert color="red" variant="light" icon={<IconAlertTriangle aria-hidden />} p="xs">
            <Text size="sm" c="var(--mantine-color-text)">{model.error}</Text>
          </Alert>
        )}
        {model.pull && <PullBar model={model} pull={model.pull} admin={admin} />}
        <Facts
          facts={[
            model.engines.length > 0 && [t("engines"), model.engines.join(", ")],
            [
              t("size"),
              model.state === "partial" && !pulled
                ? t("partly", { here: bytes(model.here, i18n.language), of: size })
                : size,
            ],
            [t("licence"), model.licences],
            [t("folder"), model.folder],
          ]}
        />
        {model.files.length > 0 && (
          <div>
            <Button variant="subtle" size="compact-sm" ml={-8} onClick={toggle} aria-expanded={opened}>
              {t(opened ? "hideFiles" : "files", { count: model.files.length })}
            </Button>
            <Collapse expanded={opened}>{opened && <Files model={model} />}</Collapse>
          </div>
        )}
      </Stack>
    </Paper>
  );
}

function State({ state }: { state: Model["state"] }) {
  const { t } = useTranslation("weights");
  const [Icon, color] = LOOKS[state];
  return (
    <Badge
      variant="default" size="lg" tt="none" fw={600} px="xs"
      leftSection={<Icon size={15} color={color} aria-hidden />}
    >
      {t(`state.${state}`)}
    </Badge>
  );
}

function Files({ model }: { model: Model }) {
  const { t, i18n } = useTranslation("weights");
  return (
    <Scroll label={t("filesOf", { name: model.name })}>
      <Table className="figures" verticalSpacing={6} miw={560}>
        <Table.Thead>
          <Table.Tr>
            {["file", "standing", "size", "licence"].map((name) => (
              <Table.Th key={name}>{t(name)}</Table.Th>
            ))}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {model.files.map((file) => (
            <Table.Tr key={file.name}>
              <Table.Td style={{ overflowWrap: "anywhere" }}>{file.name}</Table.Td>
              <Table.Td>{t(`state.${file.state}`)}</Table.Td>
              <Table.Td style={{ whiteSpace: "nowrap" }}>
                {file.state === "partial"
                  ? t("partly", { here: bytes(file.here, i18n.language), of: bytes(file.of, i18n.language) })
                  : bytes(file.of ?? (file.here || null), i18n.language)}
              </Table.Td>
              <Table.Td>{file.licence}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Scroll>
  );
}

