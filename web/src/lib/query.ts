import { QueryClient, useQuery, useQueryClient, type UseQueryResult } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { ApiError, get } from './api';

/** How often something that moves is asked for. Hidden tabs ask for nothing. */
export const refreshEvery = 3000;

export const client = new QueryClient({
  defaultOptions: {
    queries: {
      retry: (n, err) => n < 2 && !(err instanceof ApiError && err.status >= 400 && err.status < 500),
      staleTime: 2000,
      refetchOnWindowFocus: true,
      refetchIntervalInBackground: false,
    },
  },
});

interface GetOptions<T> {
  enabled?: boolean;
  /** Whether the answer may change without anybody's doing: then it is asked for again. */
  pending?: (data: T) => boolean;
  keep?: boolean; // show the earlier answer while another page of it loads
  stale?: number;
}

/** Reads a path; the path is the key, so that equal reads are shared. */
export function useGet<T>(path: string, o: GetOptions<T> = {}): UseQueryResult<T> {
  return useQuery<T>({
    queryKey: [path],
    queryFn: ({ signal }) => get<T>(path, signal),
    enabled: o.enabled ?? true,
    refetchInterval: (q) => (o.pending && q.state.data !== undefined && o.pending(q.state.data) ? refreshEvery : false),
    ...(o.keep ? { placeholderData: (prev: T | undefined) => prev as never } : {}),
    ...(o.stale !== undefined ? { staleTime: o.stale } : {}),
  });
}

/** Asks again for everything in view, after something was changed. */
export function useRefresh(): () => Promise<void> {
  const c = useQueryClient();
  return () => {
    window.dispatchEvent(new Event('gust:changed'));
    return c.invalidateQueries();
  };
}

/** The present, moving once a second while something runs and the tab is visible. */
export function useNow(moving: boolean): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    if (!moving) return;
    const id = setInterval(() => {
      if (!document.hidden) setNow(Date.now());
    }, 1000);
    return () => clearInterval(id);
  }, [moving]);
  return now;
}
