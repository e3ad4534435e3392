import { Button, Group, Stack, Text, Title } from "@mantine/core";
import { IconPlus, IconSparkles } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { useExample } from "../new/example";

/** Before the first job: where to begin. */
export function Empty() {
  const { t } = useTranslation("queue");
  const example = useExample();
  return (
    <Stack align="center" gap="sm" mt="12vh" mx="auto" maw={480} ta="center">
      <Title order={1} size="h2">
        {t("empty.title")}
      </Title>
      <Text c="dimmed">{t("empty.text")}</Text>
      <Group justify="center" mt="sm">
        <Button
          component={Link} to="/new" size="md" leftSection={<IconPlus size={18} aria-hidden />}
        >
          {t("empty.own")}
        </Button>
        <Button
          size="md" variant="default" loading={example.isPending} onClick={() => example.mutate()}
          leftSection={<IconSparkles size={18} aria-hidden />}
        >
          {t("empty.example")}
        </Button>
      </Group>
      <Text size="sm" c="dimmed">
        {t("empty.about")}
      </Text>
    </Stack>
  );
}
