import { Alert, Anchor, Button, Group, Loader, SegmentedControl, Stack, Title } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { Link } from "react-router";
import { api, body } from "../../api/client";
import { Fault } from "../../components/Fault";
import { Empty } from "./Empty";
import { JobRow } from "./JobRow";
import classes from "./queue.module.css";

const FILTERS = ["all", "active", "ended"] as const;
type Filter = (typeof FILTERS)[number];

const list = (filter: Filter, cursor?: string) =>
  body(
    api.GET("/api/v1/jobs", {
      params: { query: { state: filter === "all" ? undefined : [filter], cursor, most: 50 } },
    }),
  );

/** What is going on, and what was done. */
export function Queue() {
  const { t } = useTranslation("queue");
  const [filter, setFilter] = useState<Filter>("all");
  const jobs = useInfiniteQuery({
    queryKey: ["jobs", filter],
    queryFn: ({ pageParam }) => list(filter, pageParam),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.next ?? undefined,
  });
  const shown = jobs.data?.pages.flatMap((page) => page.jobs) ?? [];
  const empty = jobs.isSuccess && shown.length === 0;
  if (empty && filter === "all") return <Empty />;
  return (
    <Stack maw={1200} mx="auto">
      <Group justify="space-between">
        <Title order={1} size="h2">
          {t("title")}
        </Title>
        <Button component={Link} to="/new" leftSection={<IconPlus size={18} aria-hidden />}>
          {t("common:nav.new")}
        </Button>
      </Group>
      <NoWorker />
      <SegmentedControl
        value={filter} onChange={(value) => setFilter(value as Filter)} aria-label={t("filter.label")}
        data={FILTERS.map((value) => ({ value, label: t(`filter.${value}`) }))}
        style={{ alignSelf: "flex-start" }}
      />
      {jobs.isPending && <Loader aria-label={t("common:loading")} m="md" />}
      {jobs.isError && <Fault error={jobs.error} again={() => void jobs.refetch()} />}
      {empty && <p className={classes.none}>{t(`filter.none.${filter}`)}</p>}
      {shown.length > 0 && (
        <ul className={classes.list} aria-label={t("title")}>
          {shown.map((job) => (
            <JobRow key={job.id} job={job} />
          ))}
        </ul>
      )}
      {jobs.hasNextPage && (
        <Button
          variant="default" onClick={() => void jobs.fetchNextPage()}
          loading={jobs.isFetchingNextPage} style={{ alignSelf: "center" }}
        >
          {t("more")}
        </Button>
      )}
    </Stack>
  );
}

function NoWorker() {
  const { t } = useTranslation("queue");
  const workers = useQuery({ queryKey: ["workers"], queryFn: () => body(api.GET("/api/v1/workers")) });
  if (!workers.isSuccess || workers.data.workers.some((one) => one.state !== "gone")) return null;
  return (
    <Alert color="yellow" role="status">
      {t("noWorker")}{" "}
      <Anchor component={Link} to="/system" inherit c="inherit" underline="always">
        {t("noWorkerHow")}
      </Anchor>
    </Alert>
  );
}
