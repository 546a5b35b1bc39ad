import { createTheme, Modal, Tooltip } from "@mantine/core";

/** Behaviour only: colours and sizes are CSS variables, set in styles/base.css. */
export const theme = createTheme({
  cursorType: "pointer",
  components: {
    Tooltip: Tooltip.extend({
      defaultProps: { withArrow: true, multiline: true, maw: 360, openDelay: 200 },
    }),
    // The scroll lock of the library writes a style tag, which the policy refuses.
    Modal: Modal.extend({ defaultProps: { lockScroll: false, centered: true } }),
  },
});
