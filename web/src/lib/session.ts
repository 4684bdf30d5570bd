import { useGet } from './query';

interface Session {
  user?: { name?: string; role?: string } | null;
  serves?: string[];
  import_errors?: number;
}

/** Who is signed in, which subjects the server has, and how many DAG files are broken. */
export function useSession() {
  const s = useGet<Session>('ui/session', { stale: 15_000, keep: true });
  return {
    user: s.data?.user,
    has: (subject: string) => s.data?.serves === undefined || s.data.serves.includes(subject),
    importErrors: s.data?.import_errors ?? 0,
  };
}
