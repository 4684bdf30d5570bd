import RunList from '../ui/runlist';
import { ListTabs } from './dags';

export default function RunsPage() {
  return <div className="page"><h1 className="visually-hidden">Dag runs</h1><ListTabs current="runs" /><RunList dag="~" /></div>;
}
