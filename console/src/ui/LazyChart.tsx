/** The chart library comes in a file of its own, after the numbers are on the page. */

import { lazy, Suspense } from "react";
import type { ComponentProps } from "react";

import { Loading } from "./State";

const Chart = lazy(() => import("./Chart"));

export function LazyChart(props: ComponentProps<typeof Chart>) {
  return (
    <Suspense fallback={<Loading />}>
      <Chart {...props} />
    </Suspense>
  );
}
