import { Button, Group, NativeSelect } from "@mantine/core";
import { IconDownload } from "@tabler/icons-react";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { type Model, type Origin, usePulling } from "./queries";

/** From where a model is fetched, and the button that does it. */
export function Fetch({ model }: { model: Model }) {
  const { t } = useTranslation("weights");
  const [origin, setOrigin] = useState<Origin>(model.pull?.origin ?? "hf");
  const { start } = usePulling(model.name);
  const begun = model.state === "partial";
  return (
    <Group gap="xs" align="flex-end">
      <NativeSelect
        aria-label={t("origin", { name: model.name })} value={origin} size="sm"
        onChange={(event) => setOrigin(event.currentTarget.value as Origin)}
        data={[
          { value: "hf", label: "Hugging Face" },
          { value: "modelscope", label: "ModelScope" },
        ]}
      />
      <Button
        leftSection={<IconDownload size={16} aria-hidden />} loading={start.isPending}
        onClick={() => start.mutate(origin)}
      >
        {t(begun ? "goOn" : model.state === "unchecked" ? "check" : model.state === "damaged" ? "mend" : "fetch")}
      </Button>
    </Group>
  );
}
