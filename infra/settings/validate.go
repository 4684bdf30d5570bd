package settings

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/gustflow/gust/internal/awsenv"
)

var (
	nameRE       = regexp.MustCompile(`^[a-z][a-z0-9-]{0,18}[a-z0-9]$`)
	queueRE      = regexp.MustCompile(`^[A-Za-z0-9_-]{1,40}$`)
	accountRE    = regexp.MustCompile(`^[0-9]{12}$`)
	regionRE     = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]$`)
	emailRE      = regexp.MustCompile(`^[^@\s]+@[^@\s]+\.[^@\s]+$`)
	definitionRE = regexp.MustCompile(`^arn:aws[a-z-]*:ecs:[a-z0-9-]+:[0-9]{12}:task-definition/[A-Za-z0-9_-]+:([0-9]+|\*)$`)
	roleRE       = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/\S+$`)
	policyRE     = regexp.MustCompile(`^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/\S+$`)
	airflowRE    = regexp.MustCompile(`^(AIRFLOW|GUST)__[A-Z0-9_]+__[A-Z0-9_]+$`)
	prefixRE     = regexp.MustCompile(`^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$`)
)

// retentions are the numbers of days CloudWatch Logs accepts.
var retentions = []int{1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}

// Validate returns every problem of the configuration, each with what was expected.
func (c Config) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
	}
	oneOf := func(field, value string, allowed ...string) {
		if !slices.Contains(allowed, value) {
			bad(field, "%q is not one of %s", value, strings.Join(allowed, ", "))
		}
	}
	if !nameRE.MatchString(c.Name) {
		bad("name", "%q must be 2 to 20 small letters, digits and '-', begin with a letter and not end with '-'", c.Name)
	}
	oneOf("stage", string(c.Stage), string(Dev), string(Prod), string(LocalStack))
	oneOf("profile", string(c.Profile), string(Minimal), string(Full))
	oneOf("arch", string(c.Arch), string(ARM64), string(AMD64))
	oneOf("removal", string(c.Removal), string(Retain), string(Destroy))
	oneOf("alarms", c.Alarms, "basic", "all")
	if (c.Account == "") != (c.Region == "") {
		bad("account, region", "give both or neither (got %q and %q)", c.Account, c.Region)
	}
	if c.Account != "" && !accountRE.MatchString(c.Account) {
		bad("account", "%q is not a 12-digit account number", c.Account)
	}
	if c.Region != "" && !regionRE.MatchString(c.Region) {
		bad("region", "%q is not a region such as eu-central-1", c.Region)
	}
	if !slices.Contains(retentions, c.LogRetentionDays) {
		bad("log_retention_days", "%d is not one of %s", c.LogRetentionDays, strings.Trim(fmt.Sprint(retentions), "[]"))
	}
	if c.ReconcileMinutes < 1 || c.ReconcileMinutes > 1440 {
		bad("reconcile_minutes", "%d must be 1 to 1440", c.ReconcileMinutes)
	}
	if c.CleanHours < 1 || c.CleanHours > 168 {
		bad("clean_hours", "%d must be 1 to 168", c.CleanHours)
	}
	if c.AlarmEmail != "" && !emailRE.MatchString(c.AlarmEmail) {
		bad("alarm_email", "%q is not an e-mail address", c.AlarmEmail)
	}
	if len(c.DagsPrefix) > 200 || strings.Contains(c.DagsPrefix, "//") {
		bad("dags_prefix", "%q must be a folder such as dags/, at most 200 characters", c.DagsPrefix)
	}
	for _, m := range c.Metrics {
		oneOf("metrics", m, append(awsenv.DefaultMetrics(), awsenv.OptInMetrics()...)...)
	}
	if dup := duplicate(c.Metrics); dup != "" {
		bad("metrics", "%q is listed twice", dup)
	}
	for _, name := range sortedKeys(c.Functions) {
		f, field := c.Functions[name], "functions."+name
		if name == awsenv.Worker {
			bad(field, "workers are set per queue, in queues")
			continue
		}
		oneOf("functions", name, awsenv.Functions()...)
		checkMemory(bad, field+".memory_mb", f.MemoryMB)
		if f.ReservedConcurrency < 0 {
			bad(field+".reserved_concurrency", "%d must not be negative", f.ReservedConcurrency)
		}
	}
	for _, name := range sortedKeys(c.Airflow) {
		if !airflowRE.MatchString(name) {
			bad("airflow", "%q must be a setting such as AIRFLOW__CORE__PARALLELISM", name)
		}
	}
	if c.KeyRotation && !c.CustomerKey {
		bad("key_rotation", "there is no key to rotate: set customer_key")
	}
	c.validateQueues(bad, oneOf)
	if s := c.Secrets; s != nil {
		oneOf("secrets.backend", s.Backend, "secretsmanager", "ssm")
		if !prefixRE.MatchString(s.Prefix) {
			bad("secrets.prefix", "%q must be a path such as airflow: without one every secret of the account could be read", s.Prefix)
		}
	}
	c.validateECS(bad)
	return errors.Join(errs...)
}

func (c Config) validateQueues(bad func(string, string, ...any), oneOf func(string, string, ...string)) {
	if len(c.Queues) == 0 {
		bad("queues", "at least one is needed")
	}
	var names []string
	for i, q := range c.Queues {
		field := fmt.Sprintf("queues[%d]", i)
		if q.Name != "" {
			field = "queues." + q.Name
		}
		if !queueRE.MatchString(q.Name) {
			bad(field+".name", "%q must be 1 to 40 letters, digits, '-' and '_'", q.Name)
		}
		names = append(names, strings.ToLower(q.Name))
		oneOf(field+".on", q.on(), OnLambda, OnECS)
		checkMemory(bad, field+".memory_mb", q.MemoryMB)
		if q.MaxConcurrency != 0 && (q.MaxConcurrency < 2 || q.MaxConcurrency > 1000) {
			bad(field+".max_concurrency", "%d must be 2 to 1000 (what a Lambda event source mapping takes), or 0 for no bound", q.MaxConcurrency)
		}
		switch {
		case q.ReservedConcurrency < 0:
			bad(field+".reserved_concurrency", "%d must not be negative", q.ReservedConcurrency)
		case q.ReservedConcurrency > 0 && (q.MaxConcurrency == 0 || q.MaxConcurrency > q.ReservedConcurrency):
			bad(field+".max_concurrency", "must be set and at most reserved_concurrency (%d): beyond it messages are received, throttled and counted as failures", q.ReservedConcurrency)
		}
		for _, p := range q.PolicyARNs {
			if !policyRE.MatchString(p) {
				bad(field+".policy_arns", "%q is not the ARN of a managed policy", p)
			}
		}
		if q.SecretsPrefix != "" && c.Secrets == nil {
			bad(field+".secrets_prefix", "there is no secrets backend: set secrets")
		}
		if q.SecretsPrefix != "" && !prefixRE.MatchString(q.SecretsPrefix) {
			bad(field+".secrets_prefix", "%q must be a path such as airflow/team-a", q.SecretsPrefix)
		}
		if q.on() == OnECS && c.ECS == nil {
			bad(field+".on", "ECS is not enabled: set ecs")
		}
	}
	if dup := duplicate(names); dup != "" {
		bad("queues", "%q is listed twice (names differ in more than case)", dup)
	}
	if !slices.ContainsFunc(c.Queues, func(q Queue) bool { return q.Name == c.DefaultQueue }) {
		bad("default_queue", "%q is not in queues", c.DefaultQueue)
	}
}

// fargateMB lists, by CPU units, the least, the most and the step of memory that Fargate takes.
var fargateMB = map[int][3]int{256: {512, 2048, 512}, 512: {1024, 4096, 1024}, 1024: {2048, 8192, 1024}, 2048: {4096, 16384, 1024}, 4096: {8192, 30720, 1024}, 8192: {16384, 61440, 4096}, 16384: {32768, 122880, 8192}}

func (c Config) validateECS(bad func(string, string, ...any)) {
	e := c.ECS
	if e == nil {
		return
	}
	if c.Stage == LocalStack {
		bad("ecs", "LocalStack's open-source core has no ECS: leave it out in stage localstack")
	}
	if e.Image == "" || strings.ContainsAny(e.Image, " \t\n") {
		bad("ecs.image", "%q must be an image that runs gust, such as 123456789012.dkr.ecr.eu-central-1.amazonaws.com/gust:1.0", e.Image)
	}
	if m, ok := fargateMB[e.CPU]; !ok {
		bad("ecs.cpu", "%d is not one of 256, 512, 1024, 2048, 4096, 8192, 16384", e.CPU)
	} else if e.MemoryMB < m[0] || e.MemoryMB > m[1] || e.MemoryMB%m[2] != 0 {
		bad("ecs.memory_mb", "%d does not go with %d CPU units: Fargate takes %d to %d in steps of %d", e.MemoryMB, e.CPU, m[0], m[1], m[2])
	}
	if e.MaxWorkers < 1 {
		bad("ecs.max_workers", "%d must be at least 1", e.MaxWorkers)
	}
	if (len(e.Subnets) == 0) != (len(e.SecurityGroups) == 0) {
		bad("ecs.subnets, ecs.security_groups", "give both (an existing VPC) or neither (one is made)")
	}
	for _, d := range e.TaskDefinitionARNs {
		if !definitionRE.MatchString(d) {
			bad("ecs.task_definition_arns", "%q is not the ARN of a task definition, with a revision or :*", d)
		}
	}
	for _, r := range e.TaskRoleARNs {
		if !roleRE.MatchString(r) {
			bad("ecs.task_role_arns", "%q is not the ARN of a role", r)
		}
	}
}

func checkMemory(bad func(string, string, ...any), field string, mb int) {
	if mb != 0 && (mb < 128 || mb > 10240) {
		bad(field, "%d must be 128 to 10240, or 0 for the default", mb)
	}
}

// duplicate returns the first value that occurs twice, "" if none does.
func duplicate(values []string) string {
	seen := map[string]bool{}
	for _, v := range values {
		if seen[v] {
			return v
		}
		seen[v] = true
	}
	return ""
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
