import { Button, Group, Modal, NumberInput, Stack, Text } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { api } from "../../api/client";
import { problem } from "../../components/notify";
import type { Job } from "./queries";

/** Which jobs go first. */
export function Priority({ job, opened, close }: { job: Job; opened: boolean; close: () => void }) {
  const { t } = useTranslation(["job", "common"]);
  return (
    <Modal
      opened={opened} onClose={close} title={t("priority.title")} centered
      closeButtonProps={{ "aria-label": t("common:close") }}
    >
      <Form job={job} close={close} />
    </Modal>
  );
}

function Form({ job, close }: { job: Job; close: () => void }) {
  const { t } = useTranslation(["job", "common"]);
  const queries = useQueryClient();
  const [value, setValue] = useState<number | string>(job.priority);
  const change = useMutation({
    mutationFn: (priority: number) =>
      api.PATCH("/api/v1/jobs/{name}", { params: { path: { name: job.id } }, body: { priority } }),
    onSuccess: () => {
      close();
      void queries.invalidateQueries({ queryKey: ["jobs"] });
      return queries.invalidateQueries({ queryKey: ["job", job.id] });
    },
    onError: problem,
  });
  const go = (event: FormEvent) => {
    event.preventDefault();
    if (typeof value === "number") change.mutate(value);
  };
  return (
    <form onSubmit={go}>
      <Stack>
        <Text size="sm">{t("priority.help")}</Text>
        <NumberInput
          label={t("priority.label")} min={-10} max={10} allowDecimal={false} value={value}
          onChange={setValue} data-autofocus clampBehavior="strict"
        />
        <Group justify="flex-end" gap="xs">
          <Button variant="default" onClick={close}>
            {t("common:cancel")}
          </Button>
          <Button type="submit" loading={change.isPending} disabled={typeof value !== "number"}>
            {t("priority.save")}
          </Button>
        </Group>
      </Stack>
    </form>
  );
}
