import TaskInstanceList from '../ui/tilist';
import { ListTabs } from './dags';

export default function TaskInstancesPage() {
  return <div className="page"><h1 className="visually-hidden">Task instances</h1><ListTabs current="tis" /><TaskInstanceList /></div>;
}
