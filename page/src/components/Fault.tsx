import { Alert, Button, Group, Text } from "@mantine/core";
import { IconAlertTriangle } from "@tabler/icons-react";
import { useTranslation } from "react-i18next";

/** What went wrong, in the service's own words, and the way to try again. */
export function Fault({ error, again }: { error: Error; again?: () => void }) {
  const { t } = useTranslation();
  return (
    <Alert color="red" variant="light" icon={<IconAlertTriangle />} title={t("wrong")} m="md" role="alert">
      <Text size="sm" c="var(--mantine-color-text)">
        {error.message}
      </Text>
      {again && (
        <Group mt="sm">
          <Button size="xs" variant="default" onClick={again}>
            {t("tryAgain")}
          </Button>
        </Group>
      )}
    </Alert>
  );
}
