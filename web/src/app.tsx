import { Component, lazy, Suspense, useState, type ReactNode } from 'react';
import { Link, Redirect, Route, Switch, useLocation } from 'wouter';
import { query, url } from './lib/api';
import { useShortcuts } from './lib/keys';
import { usePref } from './lib/prefs';
import { useSession } from './lib/session';
import { offsetOf, zoneName } from './lib/time';
import { Failed, Loading, Menu, Toasts } from './ui/base';
import { Icon } from './ui/icons';
import { DagsPage } from './pages/dags';

const Home = lazy(() => import('./pages/home'));
const DagPage = lazy(() => import('./pages/dag'));
const RunsPage = lazy(() => import('./pages/runs'));
const Palette = lazy(() => import('./ui/palette'));
const KeyHelp = lazy(() => import('./ui/keyhelp'));
const Zones = lazy(() => import('./ui/zones'));
const pages = {
  tis: lazy(() => import('./pages/taskinstances')),
  variables: lazy(() => import('./pages/variables')),
  connections: lazy(() => import('./pages/connections')),
  pools: lazy(() => import('./pages/pools')),
  events: lazy(() => import('./pages/events')),
  importErrors: lazy(() => import('./pages/importerrors')),
  xcoms: lazy(() => import('./pages/xcoms')),
  assets: lazy(() => import('./pages/assets')),
  simple: lazy(() => import('./pages/simple')),
  required: lazy(() => import('./pages/required')),
};

/** Keeps one broken view from taking the frame with it. */
class Boundary extends Component<{ where: string; children: ReactNode }, { error: unknown; where: string }> {
  override state = { error: null as unknown, where: this.props.where };
  static getDerivedStateFromError(error: unknown) {
    return { error };
  }
  static getDerivedStateFromProps(props: { where: string }, state: { error: unknown; where: string }) {
    return props.where === state.where ? null : { error: null, where: props.where };
  }
  override render() {
    if (!this.state.error) return this.props.children;
    return (
      <div className="page">
        <Failed error={this.state.error} />
        <p><button type="button" className="btn" onClick={() => location.reload()}>Load the page again</button></p>
      </div>
    );
  }
}

function RailLink({ href, icon, label, also = [] }: { href: string; icon: string; label: string; also?: string[] }) {
  const [at] = useLocation();
  const on = href === '/' ? at === '/' : [href, ...also].some((p) => at === p || at.startsWith(p + '/'));
  return (
    <Link href={href} className={on ? 'on' : ''} aria-current={on ? 'page' : undefined}>
      <Icon name={icon} />
      {label}
    </Link>
  );
}


function Rail({ onZones, onKeys }: { onZones: () => void; onKeys: () => void }) {
  const [theme, setTheme] = usePref('theme', 'system');
  const [zone] = usePref('timezone', 'UTC');
  const [view, setView] = usePref('dagview', 'grid');
  const { user, has, importErrors } = useSession();
  return (
    <nav className="rail" aria-label="Main">
      <Link href="/" className="logo" aria-label="Gust, home">
        <img src={url('favicon.svg')} alt="" width="30" height="30" />
      </Link>
      <RailLink href="/" icon="home" label="Home" />
      <RailLink href="/dags" icon="dags" label="Dags" also={['/dag_runs', '/task_instances']} />
      {has('assets') && <RailLink href="/assets" icon="assets" label="Assets" />}
      <Menu label="Browse" className="" button={<><Icon name="browse" />Browse</>}>
        <Link href="/dag_runs">Dag runs</Link>
        <Link href="/task_instances">Task instances</Link>
        {has('events') && <Link href="/events">Audit log</Link>}
        {has('xcoms') && <Link href="/xcoms">XComs</Link>}
        {has('required_actions') && <Link href="/required_actions">Required actions</Link>}
        {has('jobs') && <Link href="/jobs">Jobs</Link>}
        {has('import_errors') && <Link href="/import_errors">Import errors</Link>}
      </Menu>
      {['variables', 'connections', 'pools', 'configs', 'providers', 'plugins'].some(has) && (
        <Menu label="Admin" className="" button={<><Icon name="admin" />Admin</>}>
          {has('variables') && <Link href="/variables">Variables</Link>}
          {has('connections') && <Link href="/connections">Connections</Link>}
          {has('pools') && <Link href="/pools">Pools</Link>}
          {has('configs') && <Link href="/configs">Config</Link>}
          {has('providers') && <Link href="/providers">Providers</Link>}
          {has('plugins') && <Link href="/plugins">Plugins</Link>}
        </Menu>
      )}
      {importErrors > 0 && <Link href={has('import_errors') ? '/import_errors' : '/'} className="alert" title="DAG files that could not be read"><Icon name="warn" />{importErrors} {importErrors === 1 ? 'error' : 'errors'}<span className="visually-hidden"> in DAG files</span></Link>}
      <div className="foot" />
      <button type="button" onClick={onZones} title={`Time zone: ${zoneName(zone)}`}>
        <Icon name="clock" />
        <span><span className="visually-hidden">Time zone </span>{offsetOf(zoneName(zone))}</span>
      </button>
      <Menu label="User" className="" up button={<><Icon name="user" />User</>}>
        {user?.name && <div className="head">{user.name}{user.role ? `, ${user.role}` : ''}</div>}
        <div className="head">Appearance</div>
        {['light', 'dark', 'system'].map((t) => (
          <button type="button" key={t} aria-pressed={theme === t} onClick={() => setTheme(t)}>{theme === t ? '● ' : '○ '}{t}</button>
        ))}
        <hr />
        <button type="button" onClick={() => setView(view === 'graph' ? 'grid' : 'graph')}>{view === 'graph' ? '☑' : '☐'} Default to graph view</button>
        <button type="button" onClick={onKeys}>Keyboard shortcuts</button>
        <hr />
        <a href={url('auth/logout')}>Log out</a>
      </Menu>
    </nav>
  );
}

function NotFound() {
  return <div className="page"><h1>There is no such page</h1><p><Link href="/dags">All DAGs</Link></p></div>;
}

export function App() {
  const [at] = useLocation();
  const [palette, setPalette] = useState(false);
  const [keys, setKeys] = useState(false);
  const [zones, setZones] = useState(false);
  useShortcuts([
    { keys: 'Ctrl+K', does: 'Go to a DAG, a run or a page', run: () => setPalette(true) },
    { keys: '? Shift+?', does: 'These shortcuts', run: () => setKeys(true) },
  ]);
  return (
    <div className="shell">
      <a className="skip" href="#main" onClick={(e) => { e.preventDefault(); document.getElementById('main')?.focus(); }}>Skip to the content</a>
      <Rail onZones={() => setZones(true)} onKeys={() => setKeys(true)} />
      <div className="main">
        <main id="main" tabIndex={-1}>
          <Boundary where={at}>
            <Suspense fallback={<Loading />}>
              <Switch>
                <Route path="/"><Home /></Route>
                <Route path="/home"><Redirect to={'/' + query({})} replace /></Route>
                <Route path="/dags"><DagsPage onSearch={() => setPalette(true)} /></Route>
                <Route path="/dags/:dag/*?">{(p) => <DagPage key={p.dag} dag={p.dag} rest={p['*'] ?? ''} onSearch={() => setPalette(true)} />}</Route>
                <Route path="/dag_runs"><RunsPage /></Route>
                <Route path="/task_instances"><pages.tis /></Route>
                <Route path="/variables"><pages.variables /></Route>
                <Route path="/connections"><pages.connections /></Route>
                <Route path="/pools"><pages.pools /></Route>
                <Route path="/events"><pages.events /></Route>
                <Route path="/import_errors"><pages.importErrors /></Route>
                <Route path="/xcoms"><pages.xcoms /></Route>
                <Route path="/required_actions"><pages.required /></Route>
                <Route path="/assets/:id?">{(p) => <pages.assets id={p.id} />}</Route>
                <Route path="/configs"><pages.simple kind="configs" /></Route>
                <Route path="/providers"><pages.simple kind="providers" /></Route>
                <Route path="/plugins"><pages.simple kind="plugins" /></Route>
                <Route path="/jobs"><pages.simple kind="jobs" /></Route>
                <Route><NotFound /></Route>
              </Switch>
            </Suspense>
          </Boundary>
        </main>
      </div>
      <Suspense fallback={null}>
        {palette && <Palette onClose={() => setPalette(false)} />}
        {keys && <KeyHelp onClose={() => setKeys(false)} />}
        {zones && <Zones onClose={() => setZones(false)} />}
      </Suspense>
      <Toasts />
    </div>
  );
}
