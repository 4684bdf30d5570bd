import type { ReactNode } from 'react';

/** Icons as paths on a 16 by 16 field; they are decoration, labels stand beside or above them. */

const paths: Record<string, ReactNode> = {
  home: <path d="M2 8 8 2.5 14 8M3.5 7v6.5h9V7" />,
  dags: <path d="M3 3h4v3H3zM9 10h4v3H9zM7 4.5h2.5a1.5 1.5 0 0 1 1.5 1.5v4M3 13h3" />,
  assets: <><ellipse cx="8" cy="4" rx="5" ry="2" /><path d="M3 4v8c0 1.1 2.2 2 5 2s5-.9 5-2V4M3 8c0 1.1 2.2 2 5 2s5-.9 5-2" /></>,
  browse: <><circle cx="8" cy="8" r="6" /><path d="M2 8h12M8 2c4 4 4 8 0 12M8 2c-4 4-4 8 0 12" /></>,
  admin: <><circle cx="8" cy="8" r="2.3" /><path d="M8 1.5v2M8 12.5v2M1.5 8h2M12.5 8h2M3.4 3.4l1.4 1.4M11.2 11.2l1.4 1.4M12.6 3.4l-1.4 1.4M4.8 11.2l-1.4 1.4" /></>,
  clock: <><circle cx="8" cy="8" r="6" /><path d="M8 4.5V8l2.5 1.5" /></>,
  user: <><circle cx="8" cy="5.5" r="2.6" /><path d="M3 14c.6-3 2.5-4.5 5-4.5s4.400 1.500 5 4.500" /></>,
  play: <path d="M4.500 3v10l8-5z" />,
  star: <path d="m8 2 1.800 3.900 4.200.5-3.100 2.900.8 4.200L8 11.400l-3.700 2.100.8-4.200L2 6.400l4.200-.5z" />,
  clear: <path d="M13 8a5 5 0 1 1-1.500-3.600M13 2v3h-3" />,
  check: <path d="m3 8.500 3.200 3.200L13 4.800" />,
  cross: <path d="m4 4 8 8M12 4l-8 8" />,
  trash: <path d="M3 4.500h10M6.500 4V2.500h3V4M4.500 4.500l.6 9h5.800l.6-9M7 7v4M9 7v4" />,
  edit: <path d="M10.500 3 13 5.500 6 12.500 3 13l.5-3zM9 4.500 11.500 7" />,
  search: <><circle cx="7" cy="7" r="4.300" /><path d="m10.300 10.300 3.700 3.700" /></>,
  grid: <path d="M2.500 2.500h4.500v4.500H2.500zM9 2.500h4.500v4.500H9zM2.500 9h4.500v4.500H2.500zM9 9h4.500v4.500H9z" />,
  gantt: <path d="M2.500 2v12M5 4.500h5M7 8h6M5 11.500h4" />,
  graph: <path d="M2 6h4v4H2zM10 2h4v4h-4zM10 10h4v4h-4zM6 8h2V4h2M8 8v4h2" />,
  down: <path d="m4 6 4 4 4-4" />,
  right: <path d="m6 4 4 4-4 4" />,
  plus: <path d="M8 3v10M3 8h10" />,
  download: <path d="M8 2.500v7M5 7l3 3 3-3M3 13h10" />,
  upload: <path d="M8 10V3M5 5.500l3-3 3 3M3 13h10" />,
  copy: <path d="M5.500 5.500h8v8h-8zM3 10.500h-.5v-8h8V3" />,
  full: <path d="M3 6V3h3M10 3h3v3M13 10v3h-3M6 13H3v-3" />,
  note: <path d="M3 3h10v7l-3 3H3zM10 13v-3h3" />,
  warn: <path d="M8 2.500 14 13H2zM8 6.500v3M8 11.300v.4" />,
  more: <path d="M3.500 8h.01M8 8h.01M12.500 8h.01" strokeWidth="2.400" />,
  calendar: <path d="M2.500 3.500h11v10h-11zM2.500 6.500h11M5.500 2v3M10.500 2v3" />,
  wrap: <path d="M2 4h12M2 8h10a2 2 0 0 1 0 4H8M9.500 10.500 8 12l1.500 1.500M2 12h3" />,
};

export function Icon({ name }: { name: string }) {
  return (
    <svg className="i" viewBox="0 0 16 16" fill="none" stroke="currentColor" strokeWidth="1.500" strokeLinecap="round" strokeLinejoin="round" aria-hidden="true">
      {paths[name]}
    </svg>
  );
}
