/** Stacked bars over time. Everything is drawn on a canvas: no text of the API becomes HTML. */

import { useComputedColorScheme } from "@mantine/core";
import { BarChart } from "echarts/charts";
import { GridComponent, LegendComponent, TooltipComponent } from "echarts/components";
import type { ECharts } from "echarts/core";
import { init, use } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";
import { useEffect, useRef } from "react";

import { absolute, clock } from "../lib/format";

use([BarChart, GridComponent, LegendComponent, TooltipComponent, CanvasRenderer]);

export interface Series {
  name: string;
  /** Name of a CSS variable that holds the colour. */
  color: string;
  values: number[];
}

interface ChartProps {
  label: string;
  starts: string[];
  series: Series[];
  height?: number;
  /** Days beside the time of day on the axis. */
  withDate?: boolean;
  onSelect?: (index: number) => void;
}

const variable = (name: string) =>
  getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export default function Chart(props: ChartProps) {
  const { label, starts, series, height = 190, withDate = false, onSelect } = props;
  const scheme = useComputedColorScheme("light");
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<ECharts | null>(null);
  const select = useRef(onSelect);
  useEffect(() => {
    select.current = onSelect;
  });

  useEffect(() => {
    if (!box.current) return;
    const made = init(box.current);
    chart.current = made;
    made.getZr().on("click", (event) => {
      const point = made.convertFromPixel({ gridIndex: 0 }, [event.offsetX, event.offsetY]);
      const index = Array.isArray(point) ? point[0] : undefined;
      if (index !== undefined && made.containPixel("grid", [event.offsetX, event.offsetY])) {
        select.current?.(index);
      }
    });
    const observer = new ResizeObserver(() => made.resize());
    observer.observe(box.current);
    return () => {
      observer.disconnect();
      made.dispose();
      chart.current = null;
    };
  }, []);

  useEffect(() => {
    const ink = variable("--y-dim");
    const line = variable("--y-line");
    const font = { fontFamily: variable("--mantine-font-family"), fontSize: 11, color: ink };
    chart.current?.setOption(
      {
        animation: false,
        grid: { left: 4, right: 6, top: 30, bottom: 2, containLabel: true },
        legend: {
          top: 0,
          left: 0,
          itemWidth: 10,
          itemHeight: 10,
          itemGap: 14,
          icon: "roundRect",
          textStyle: { ...font, color: variable("--y-text") },
          inactiveColor: line,
        },
        tooltip: {
          trigger: "axis",
          axisPointer: { type: "shadow", shadowStyle: { color: variable("--y-hover") } },
          renderMode: "richText",
          confine: true,
          backgroundColor: variable("--y-raised"),
          borderColor: line,
          textStyle: { ...font, fontSize: 12, color: variable("--y-text") },
        },
        xAxis: {
          type: "category",
          data: starts.map((start) => (withDate ? absolute(start).slice(5, 16) : clock(start))),
          axisLabel: { ...font, hideOverlap: true },
          axisLine: { lineStyle: { color: line } },
          axisTick: { show: false },
        },
        yAxis: {
          type: "value",
          minInterval: 1,
          splitNumber: 3,
          axisLabel: font,
          splitLine: { lineStyle: { color: line } },
        },
        series: series.map(({ name, color, values }) => ({
          name,
          type: "bar",
          stack: "all",
          data: values,
          barCategoryGap: "22%",
          itemStyle: { color: variable(color) },
          emphasis: { disabled: true },
        })),
      },
      { notMerge: true },
    );
  }, [scheme, starts, series, withDate]);

  return <div ref={box} className="y-chart" style={{ height }} role="img" aria-label={label} />;
}
