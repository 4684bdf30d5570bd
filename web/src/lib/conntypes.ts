/** What the form of a connection asks for, by type. Types that are not listed get all fields. */

export interface ConnType {
  label: string;
  hide?: readonly string[];
  names?: Readonly<Record<string, string>>;
  extra?: readonly { key: string; label: string; secret?: boolean; hint?: string }[];
  port?: number;
}

export const connTypes: Readonly<Record<string, ConnType>> = {
  aws: { label: 'Amazon Web Services', hide: ['host', 'port', 'schema'], names: { login: 'Access key id', password: 'Secret access key' }, extra: [{ key: 'region_name', label: 'Region' }, { key: 'role_arn', label: 'Role ARN' }, { key: 'endpoint_url', label: 'Endpoint URL' }, { key: 'aws_session_token', label: 'Session token', secret: true }] },
  azure: { label: 'Azure', hide: ['host', 'port', 'schema'], names: { login: 'Client id', password: 'Client secret' }, extra: [{ key: 'tenantId', label: 'Tenant id' }, { key: 'subscriptionId', label: 'Subscription id' }] },
  docker: { label: 'Docker registry', hide: ['schema'], names: { host: 'Registry' }, extra: [{ key: 'reauth', label: 'Sign in again (true, false)' }] },
  elasticsearch: { label: 'Elasticsearch', port: 9200 },
  fs: { label: 'File (path)', hide: ['host', 'port', 'schema', 'login', 'password'], extra: [{ key: 'path', label: 'Path' }] },
  ftp: { label: 'FTP', hide: ['schema'], port: 21 },
  generic: { label: 'Generic' },
  google_cloud_platform: { label: 'Google Cloud', hide: ['host', 'port', 'schema', 'login', 'password'], extra: [{ key: 'project', label: 'Project' }, { key: 'key_path', label: 'Key file' }, { key: 'keyfile_dict', label: 'Key (JSON)', secret: true }] },
  http: { label: 'HTTP', names: { schema: 'Scheme (http, https)' } },
  kubernetes: { label: 'Kubernetes', hide: ['host', 'port', 'schema', 'login', 'password'], extra: [{ key: 'kube_config_path', label: 'kubeconfig file' }, { key: 'namespace', label: 'Namespace' }, { key: 'cluster_context', label: 'Context' }] },
  mongo: { label: 'MongoDB', names: { schema: 'Database' }, port: 27017 },
  mssql: { label: 'Microsoft SQL Server', names: { schema: 'Database' }, port: 1433 },
  mysql: { label: 'MySQL, MariaDB', names: { schema: 'Database' }, port: 3306, extra: [{ key: 'charset', label: 'Character set' }] },
  oracle: { label: 'Oracle', port: 1521, extra: [{ key: 'service_name', label: 'Service name' }] },
  postgres: { label: 'Postgres', names: { schema: 'Database' }, port: 5432, extra: [{ key: 'sslmode', label: 'sslmode' }] },
  redis: { label: 'Redis', hide: ['schema'], port: 6379, extra: [{ key: 'db', label: 'Database number' }] },
  redshift: { label: 'Amazon Redshift', names: { schema: 'Database' }, port: 5439 },
  sftp: { label: 'SFTP', hide: ['schema'], port: 22, extra: [{ key: 'key_file', label: 'Private key file' }] },
  slack: { label: 'Slack API', hide: ['host', 'port', 'schema', 'login'], names: { password: 'Token' } },
  slackwebhook: { label: 'Slack incoming webhook', hide: ['port', 'schema', 'login'], names: { password: 'Webhook token', host: 'Webhook address' } },
  smtp: { label: 'SMTP', hide: ['schema'], port: 587, extra: [{ key: 'from_email', label: 'From' }, { key: 'disable_tls', label: 'No TLS (true, false)' }] },
  snowflake: { label: 'Snowflake', hide: ['port'], extra: [{ key: 'account', label: 'Account' }, { key: 'warehouse', label: 'Warehouse' }, { key: 'database', label: 'Database' }, { key: 'role', label: 'Role' }] },
  sqlite: { label: 'SQLite', hide: ['port', 'schema', 'login', 'password'], names: { host: 'File' } },
  ssh: { label: 'SSH', hide: ['schema'], port: 22, extra: [{ key: 'key_file', label: 'Private key file' }, { key: 'no_host_key_check', label: 'Do not check the host key (true, false)' }] },
  trino: { label: 'Trino', names: { schema: 'Catalog' }, port: 8080 },
};
