import { Alert, Button, Center, Paper, PasswordInput, Stack, Text, Title } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { api } from "../api/client";

export function SignIn() {
  const { t } = useTranslation();
  const queries = useQueryClient();
  const [token, setToken] = useState("");
  const enter = useMutation({
    mutationFn: () => api.POST("/api/v1/auth/session", { body: { token: token.trim() } }),
    onSuccess: () => queries.invalidateQueries({ queryKey: ["session"] }),
  });
  const go = (event: FormEvent) => {
    event.preventDefault();
    enter.mutate();
  };
  return (
    <Center mih="100vh" p="md" component="main">
      <Paper withBorder p="xl" maw={440} w="100%">
        <form onSubmit={go}>
          <Stack>
            <Title order={1} size="h2">
              {t("signIn.title")}
            </Title>
            <Text>{t("signIn.help")}</Text>
            {enter.isError && (
              <Alert color="red" role="alert">
                {t("signIn.refused")}
              </Alert>
            )}
            <PasswordInput
              label={t("signIn.token")} value={token} autoComplete="off" required
              onChange={(event) => setToken(event.currentTarget.value)}
            />
            <Button type="submit" loading={enter.isPending}>
              {t("signIn.go")}
            </Button>
          </Stack>
        </form>
      </Paper>
    </Center>
  );
}
