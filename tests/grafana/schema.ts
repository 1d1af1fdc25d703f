// A dashboard by Grafana's own schema: its types, with the options that each kind of panel takes.
//
// The published types leave queries, overrides and a panel's options open. Here they are closed, so that a word that Grafana does not
// know is an error of the compiler. Only kinds of panels that are named here may be used.

import type * as bargauge from "@grafana/schema/dist/esm/raw/composable/bargauge/panelcfg/x/BarGaugePanelCfg_types.gen";
import type * as heatmap from "@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen";
import type * as stat from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as timeline from "@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen";
import type * as text from "@grafana/schema/dist/esm/raw/composable/text/panelcfg/x/TextPanelCfg_types.gen";
import type * as series from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";
import type { AnnotationQuery, Dashboard, FieldConfig, Panel, RowPanel } from "@grafana/schema";

// JSON has no enums: where the types want one, its value is good.
type Plain<T> = T extends string ? `${T}`
  : T extends number | boolean | null | undefined ? T
  : T extends object ? { [K in keyof T]: Plain<T[K]> }
  : T;

// A query as the editor of Prometheus queries writes it.
interface Query {
  refId: string;
  datasource: { type: "prometheus"; uid: string };
  editorMode: "code" | "builder";
  expr: string;
  legendFormat: string;
  range: boolean;
  instant?: boolean;
  format?: "time_series" | "table" | "heatmap";
}

// What overrides may set: a field of all panels, or one of this kind's own.
type Property<Custom> =
  | { [K in Exclude<keyof FieldConfig, "custom">]-?: { id: K; value: FieldConfig[K] } }[Exclude<keyof FieldConfig, "custom">]
  | { [K in keyof Custom & string]-?: { id: `custom.${K}`; value: Custom[K] } }[keyof Custom & string];

interface Fields<Custom> {
  defaults: Omit<FieldConfig, "custom"> & { custom?: Custom };
  overrides: { matcher: { id: "byName" | "byRegexp"; options: string }; properties: Property<Custom>[] }[];
}

// Grafana guesses what is absent; here nothing is.
type Said = "id" | "title" | "gridPos" | "pluginVersion";

type Shown<Type extends string, Options, Custom> =
  & Required<Pick<Panel, Said | "datasource" | "description">>
  & Omit<Panel, Said | "datasource" | "description" | "type" | "options" | "fieldConfig" | "targets">
  & { type: Type; options: Options; fieldConfig: Fields<Custom>; targets: Query[] };

type Written = Required<Pick<Panel, Said>> & { type: "text"; options: text.Options };

type Any =
  | Shown<"stat", stat.Options, Record<string, never>>
  | Shown<"timeseries", series.Options, series.FieldConfig>
  | Shown<"bargauge", bargauge.Options, Record<string, never>>
  | Shown<"heatmap", heatmap.Options, heatmap.FieldConfig>
  | Shown<"state-timeline", timeline.Options, timeline.FieldConfig>
  | Written
  | (Omit<RowPanel, "panels"> & { panels: never[] });

type Noted = Omit<AnnotationQuery, "target"> & { target?: { refId: string; expr: string; legendFormat?: string } };

export type Judged = Plain<
  Omit<Required<Pick<Dashboard, "uid" | "title" | "description" | "tags">> & Dashboard, "panels" | "annotations">
  & { panels: Any[]; annotations: { list: Noted[] } }
>;
