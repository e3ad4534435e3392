import { Anchor, Stack, Text } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";

export function Nowhere() {
  const { t } = useTranslation();
  return (
    <Stack align="flex-start">
      <Text>{t("notFound")}</Text>
      <Anchor component={Link} to="/">
        {t("toQueue")}
      </Anchor>
    </Stack>
  );
}
