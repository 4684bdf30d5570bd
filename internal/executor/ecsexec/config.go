package ecsexec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/awsenv"
	"github.com/gustflow/gust/internal/worker"
)

// taskConfig is executor_config.
type taskConfig struct {
	Image       string `json:"image"`
	CPU         text   `json:"cpu"`
	Memory      text   `json:"memory"`
	TaskRoleARN string `json:"taskRoleArn"`

	TaskDefinition           string `json:"taskDefinition"`
	LaunchType               string `json:"launchType"`
	PlatformVersion          string `json:"platformVersion"`
	CapacityProviderStrategy []struct {
		CapacityProvider string `json:"capacityProvider"`
		Weight           int32  `json:"weight"`
		Base             int32  `json:"base"`
	} `json:"capacityProviderStrategy"`
	NetworkConfiguration *struct {
		AWSVPC struct {
			Subnets        []string `json:"subnets"`
			SecurityGroups []string `json:"securityGroups"`
			AssignPublicIP string   `json:"assignPublicIp"`
		} `json:"awsvpcConfiguration"`
	} `json:"networkConfiguration"`
	Overrides struct {
		CPU              text   `json:"cpu"`
		Memory           text   `json:"memory"`
		TaskRoleARN      string `json:"taskRoleArn"`
		EphemeralStorage *struct {
			SizeInGiB int32 `json:"sizeInGiB"`
		} `json:"ephemeralStorage"`
		ContainerOverrides []struct {
			Name              string `json:"name"`
			CPU               *int32 `json:"cpu"`
			Memory            *int32 `json:"memory"`
			MemoryReservation *int32 `json:"memoryReservation"`
			Environment       []struct {
				Name  string `json:"name"`
				Value string `json:"value"`
			} `json:"environment"`
		} `json:"containerOverrides"`
	} `json:"overrides"`
}

// text is a string that may be written as a number: cpu: 1024.
type text string

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*t = text(s)
		return nil
	}
	var n json.Number
	if err := json.Unmarshal(b, &n); err != nil {
		return fmt.Errorf("expected a number such as 1024, found %s", b)
	}
	*t = text(n)
	return nil
}

// keys are those of executor_config, for messages.
const keys = "image, cpu, memory, taskRoleArn, overrides, taskDefinition, launchType, platformVersion, capacityProviderStrategy, networkConfiguration"

// parseConfig reads executor_config; all problems at once.
func parseConfig(raw json.RawMessage) (taskConfig, error) {
	var c taskConfig
	if len(raw) == 0 || string(raw) == "null" {
		return c, nil
	}
	plain, err := json.Marshal(untag(raw))
	if err != nil {
		return c, fmt.Errorf("executor_config: %w", err)
	}
	dec := json.NewDecoder(bytes.NewReader(plain))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return c, fmt.Errorf("executor_config: %s: the ecs executor takes %s", strings.TrimPrefix(err.Error(), "json: "), keys)
	}
	var problems []airflow.Problem
	bad := func(field, format string, args ...any) {
		problems = append(problems, airflow.Problem{Field: "executor_config." + field, Message: fmt.Sprintf(format, args...)})
	}
	once := func(field string, top, in string) {
		if top != "" && in != "" && top != in {
			bad(field, "is given twice, as %q and in overrides as %q", top, in)
		}
	}
	once("cpu", string(c.CPU), string(c.Overrides.CPU))
	once("memory", string(c.Memory), string(c.Overrides.Memory))
	once("taskRoleArn", c.TaskRoleARN, c.Overrides.TaskRoleARN)
	if c.Image != "" && c.TaskDefinition != "" {
		bad("image", "cannot be combined with taskDefinition, which names an image already")
	}
	if len(c.CapacityProviderStrategy) > 0 && c.LaunchType != "" {
		bad("launchType", "cannot be combined with capacityProviderStrategy")
	}
	switch c.LaunchType {
	case "", "FARGATE", "EC2", "EXTERNAL":
	default:
		bad("launchType", "%q is unknown: expected FARGATE, EC2 or EXTERNAL", c.LaunchType)
	}
	if len(c.Overrides.ContainerOverrides) > 1 {
		bad("overrides.containerOverrides", "has %d entries: expected one, for the container %q", len(c.Overrides.ContainerOverrides), awsenv.ECSContainer)
	}
	for _, o := range c.Overrides.ContainerOverrides {
		if o.Name != "" && o.Name != awsenv.ECSContainer && c.TaskDefinition == "" {
			bad("overrides.containerOverrides", "names the container %q: it is called %q", o.Name, awsenv.ECSContainer)
		}
		for _, e := range o.Environment {
			if strings.HasPrefix(e.Name, "GUST_") || strings.HasPrefix(e.Name, "AWS_") {
				bad("overrides.containerOverrides.environment", "%s cannot be set: names that begin with GUST_ and AWS_ belong to the deployment", e.Name)
			}
		}
	}
	if len(problems) > 0 {
		return c, &airflow.InvalidError{Problems: problems}
	}
	return c, nil
}

// untag takes the types away that Airflow's serialization puts around nested values.
func untag(raw json.RawMessage) any {
	raw = airflow.Untag(raw)
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) == nil && object != nil {
		out := map[string]any{}
		for k, v := range object {
			out[k] = untag(v)
		}
		return out
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) == nil && list != nil {
		out := make([]any, len(list))
		for i, v := range list {
			out[i] = untag(v)
		}
		return out
	}
	return raw
}

func first(a ...string) string {
	for _, s := range a {
		if s != "" {
			return s
		}
	}
	return ""
}

// orNil is a pointer to s, nil for "".
func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// queueOf is the queue whose task definition a dispatch uses.
func (x *Executor) queueOf(d worker.Dispatch) string { return first(d.Queue, x.o.DefaultQueue) }

// request builds the RunTask call of a dispatch, but for its token. An error says why
// the deployment can never run it.
func (x *Executor) request(d worker.Dispatch, c taskConfig) (*ecs.RunTaskInput, error) {
	cfg := x.o.Config
	def := c.TaskDefinition
	if def == "" {
		if def = cfg.TaskDefinitions[x.queueOf(d)]; def == "" {
			return nil, fmt.Errorf("queue %q has no task definition for the ecs executor; those that have one: %s", x.queueOf(d), strings.Join(slices.Sorted(maps.Keys(cfg.TaskDefinitions)), ", "))
		}
	}
	if c.Image != "" && !cfg.PerTaskImages {
		return nil, fmt.Errorf("executor_config names the image %q: this deployment does not allow images per task (per_task_images)", c.Image)
	}
	role := first(c.TaskRoleARN, c.Overrides.TaskRoleARN)
	if role != "" && !slices.Contains(cfg.TaskRoles, role) {
		return nil, fmt.Errorf("executor_config asks for the role %q: this deployment allows %s; add it to the deployment's task roles", role, first(strings.Join(cfg.TaskRoles, ", "), "none"))
	}
	body, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	container := types.ContainerOverride{Name: aws.String(awsenv.ECSContainer)}
	for _, o := range c.Overrides.ContainerOverrides {
		if o.Name != "" {
			container.Name = aws.String(o.Name)
		}
		container.Cpu, container.Memory, container.MemoryReservation = o.CPU, o.Memory, o.MemoryReservation
		for _, e := range o.Environment {
			container.Environment = append(container.Environment, types.KeyValuePair{Name: aws.String(e.Name), Value: aws.String(e.Value)})
		}
	}
	container.Environment = append(container.Environment, types.KeyValuePair{Name: aws.String(awsenv.ECSDispatch), Value: aws.String(string(body))})
	in := &ecs.RunTaskInput{
		Cluster: orNil(cfg.Cluster), TaskDefinition: &def, Count: aws.Int32(1), StartedBy: aws.String(startedBy(d)), PlatformVersion: orNil(c.PlatformVersion),
		Overrides: &types.TaskOverride{
			Cpu: orNil(first(string(c.CPU), string(c.Overrides.CPU))), Memory: orNil(first(string(c.Memory), string(c.Overrides.Memory))),
			TaskRoleArn: orNil(role), ContainerOverrides: []types.ContainerOverride{container},
		},
	}
	if s := c.Overrides.EphemeralStorage; s != nil {
		in.Overrides.EphemeralStorage = &types.EphemeralStorage{SizeInGiB: s.SizeInGiB}
	}
	for _, s := range c.CapacityProviderStrategy {
		in.CapacityProviderStrategy = append(in.CapacityProviderStrategy, types.CapacityProviderStrategyItem{CapacityProvider: aws.String(s.CapacityProvider), Weight: s.Weight, Base: s.Base})
	}
	if len(in.CapacityProviderStrategy) == 0 {
		in.LaunchType = types.LaunchType(first(c.LaunchType, "FARGATE"))
	}
	vpc := &types.AwsVpcConfiguration{Subnets: cfg.Subnets, SecurityGroups: cfg.SecurityGroups, AssignPublicIp: types.AssignPublicIpDisabled}
	if cfg.AssignPublicIP {
		vpc.AssignPublicIp = types.AssignPublicIpEnabled
	}
	if n := c.NetworkConfiguration; n != nil {
		if len(n.AWSVPC.Subnets) > 0 {
			vpc.Subnets = n.AWSVPC.Subnets
		}
		if len(n.AWSVPC.SecurityGroups) > 0 {
			vpc.SecurityGroups = n.AWSVPC.SecurityGroups
		}
		if n.AWSVPC.AssignPublicIP != "" {
			vpc.AssignPublicIp = types.AssignPublicIp(n.AWSVPC.AssignPublicIP)
		}
	}
	if len(vpc.Subnets) > 0 {
		in.NetworkConfiguration = &types.NetworkConfiguration{AwsvpcConfiguration: vpc}
	}
	return in, nil
}
