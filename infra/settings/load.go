package settings

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"sort"
	"strings"

	"github.com/gustflow/gust/internal/awsenv"
)

// ContextKeys are the CDK context keys that [Load] understands.
var ContextKeys = []string{"stage", "profile", "name", "arch", "alarm_email", "removal", "config"}

// Defaults returns the configuration of a stage, before anybody has said anything.
func Defaults(stage Stage) Config {
	c := Config{
		Name: "gust", Stage: stage, Profile: Minimal, Arch: ARM64,
		Queues: []Queue{{Name: "default"}}, DefaultQueue: "default", DagsPrefix: "dags/",
		ReconcileMinutes: 5, CleanHours: 24, LogRetentionDays: 14, Removal: Destroy, Bursts: true,
	}
	switch stage {
	case Prod:
		c.Profile, c.Removal, c.LogRetentionDays = Full, Retain, 90
	case LocalStack:
		// The emulator runs the machine's own binaries and knows one account.
		c.Arch = Arch(runtime.GOARCH)
		c.Account, c.Region = "000000000000", "us-east-1"
		c.LogRetentionDays, c.ReconcileMinutes = 1, 1
		c.Queues = []Queue{{Name: "default"}, {Name: "isolated"}}
		// Nothing here is as old, unless a test says so.
		c.Airflow = map[string]string{"AIRFLOW__GUST__DAG_RUN_RETENTION_DAYS": "3650"}
	}
	return c.withProfile(c.Profile)
}

// withProfile sets what a profile decides.
func (c Config) withProfile(p Profile) Config {
	c.Profile = p
	c.Metrics = []string{}
	c.Alarms = "basic"
	c.Dashboard, c.CustomerKey = false, false
	if p == Full {
		c.Metrics = awsenv.DefaultMetrics()
		c.Alarms, c.Dashboard, c.CustomerKey = "all", true, true
	}
	return c
}

// Load returns the configuration of a deployment, or every problem with it at once.
// context holds the values of [ContextKeys] that were given; file is the content
// of the configuration file, nil if there is none; account and region are the
// CDK's, "" if unknown.
func Load(context map[string]string, file []byte, account, region string) (Config, error) {
	var head struct {
		Stage   Stage   `json:"stage"`
		Profile Profile `json:"profile"`
	}
	if file != nil {
		if err := json.Unmarshal(file, &head); err != nil {
			return Config{}, fmt.Errorf("configuration file: %w", err)
		}
	}
	if s := context["stage"]; s != "" {
		head.Stage = Stage(s)
	}
	if head.Stage == "" {
		head.Stage = Dev
	}
	c := Defaults(head.Stage)
	if c.Account == "" && account != "" { // without credentials the CDK still knows a region
		c.Account, c.Region = account, region
	}
	if p := context["profile"]; p != "" {
		head.Profile = Profile(p)
	}
	if head.Profile != "" {
		c = c.withProfile(head.Profile)
	}
	if file != nil {
		d := json.NewDecoder(bytes.NewReader(file))
		d.DisallowUnknownFields()
		if err := d.Decode(&c); err != nil {
			return Config{}, fmt.Errorf("configuration file: %w (see infra/settings for the fields)", err)
		}
	}
	c.Stage, c.Profile = head.Stage, cmpOr(head.Profile, c.Profile)
	for key, set := range map[string]*string{"name": &c.Name, "arch": (*string)(&c.Arch), "alarm_email": &c.AlarmEmail, "removal": (*string)(&c.Removal)} {
		if v := context[key]; v != "" {
			*set = v
		}
	}
	if p := strings.Trim(c.DagsPrefix, "/"); p == "" {
		c.DagsPrefix = ""
	} else {
		c.DagsPrefix = p + "/"
	}
	sort.SliceStable(c.Queues, func(i, j int) bool { return c.Queues[i].Name < c.Queues[j].Name })
	return c, c.Validate()
}

func cmpOr(a, b Profile) Profile {
	if a != "" {
		return a
	}
	return b
}
