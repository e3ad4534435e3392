import { Alert, Button, Group, Paper, Progress, Stack, Text } from "@mantine/core";
import { IconX } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useTranslation } from "react-i18next";
import { bytes, duration, number } from "../../lib/format";
import { forget, goOn, left, type Sending, stop } from "../../lib/upload";

/** A film on its way here. */
export function Uploading({ upload }: { upload: Sending }) {
  const { t, i18n } = useTranslation("new");
  const { name, sent, of, speed, error } = upload;
  const share = of > 0 ? (100 * sent) / of : 0;
  return (
    <Paper withBorder p="md">
      <Stack gap="xs">
        <Group justify="space-between" wrap="nowrap" gap="sm">
          <Text fw={600} truncate title={name}>
            {name}
          </Text>
          <Button
            variant="default" size="xs" onClick={stop} leftSection={<IconX size={14} aria-hidden />}
            style={{ flexShrink: 0 }}
          >
            {t("upload.stop")}
          </Button>
        </Group>
        <Progress value={share} color={error ? "gray" : undefined} aria-label={t("upload.progress", { name })} />
        <Group justify="space-between" gap="xs">
          <Text size="sm" c="dimmed" className="figures">
            {number(share, i18n.language)} % ·{" "}
            {t("common:of", { here: bytes(sent, i18n.language), of: bytes(of, i18n.language) })}
          </Text>
          {speed !== null && speed > 0 && (
            <Text size="sm" className="figures">
              {t("upload.speed", { value: bytes(speed, i18n.language) })} ·{" "}
              {t("upload.left", { time: duration((of - sent) / speed, i18n.language) })}
            </Text>
          )}
        </Group>
        {error && (
          <Alert color="red" role="alert">
            <Text size="sm">{error.message}</Text>
            <Text size="sm">{t("upload.kept")}</Text>
            <Button size="xs" variant="default" mt="xs" onClick={goOn}>
              {t("upload.again")}
            </Button>
          </Alert>
        )}
        {!error && (
          <Text size="xs" c="dimmed">
            {t("upload.about")}
          </Text>
        )}
      </Stack>
    </Paper>
  );
}

/** Uploads that an earlier page did not bring to their end. */
export function LeftUploads() {
  const { t, i18n } = useTranslation("new");
  const uploads = useQuery({ queryKey: ["left uploads"], queryFn: left, staleTime: 0 });
  if (!uploads.data?.length) return null;
  return (
    <Stack gap={4}>
      {uploads.data.map((one) => (
        <Group key={one.key} gap="xs" wrap="nowrap" justify="space-between">
          <Text size="sm" style={{ overflowWrap: "anywhere" }}>
            {t("upload.cut", { name: one.name, size: bytes(one.size, i18n.language) })}
          </Text>
          <Button
            variant="subtle" size="compact-sm" style={{ flexShrink: 0 }}
            aria-label={t("upload.forgetOf", { name: one.name })}
            onClick={() => void forget(one).then(() => uploads.refetch())}
          >
            {t("upload.forget")}
          </Button>
        </Group>
      ))}
    </Stack>
  );
}
