package scheduler

import (
	"encoding/json"
	"time"
)

// The vectors are decisions of a real Airflow 3.3.2; the README beside them
// explains their form. Every field is known here: an unknown one is an error.

type vecCase struct {
	ID, Theme, Seed, Airflow string
	OrderDependent           []string `json:"order_dependent"`
	DAG                      *vecDAG
	Runs                     []vecRun
	Script                   map[string]json.RawMessage
	Steps                    []vecStep
	Final                    json.RawMessage
	EffectiveWeights         map[string]int64 `json:"effective_weights"`
	Pools                    map[string]struct {
		Slots           int
		IncludeDeferred bool `json:"include_deferred"`
	}
	DAGs   []vecDAG
	States map[string]string
	Rounds []vecRound
}

type vecDAG struct {
	ID             string
	Tasks          []vecTask
	Groups         []vecGroup
	Edges          [][2]string
	FailFast       bool `json:"fail_fast"`
	Catchup        bool
	Schedule       string
	MaxActiveTasks int `json:"max_active_tasks"`
	MaxActiveRuns  int `json:"max_active_runs"`
	Paused         bool
	Runs           []vecRun
}

type vecTask struct {
	ID, Kind            string
	Upstream            []string
	TriggerRule         string `json:"trigger_rule"`
	Retries             int
	Setup, Teardown     bool
	Setups              []string
	OnFailureFailDagrun bool `json:"on_failure_fail_dagrun"`
	Group               string
	Map                 *vecMap
	IgnoreDownstream    *bool  `json:"ignore_downstream_trigger_rules"`
	DependsOnPast       bool   `json:"depends_on_past"`
	WaitForDownstream   bool   `json:"wait_for_downstream"`
	IgnoreFirst         *bool  `json:"ignore_first_depends_on_past"`
	StartDay            *int   `json:"start_day"`
	PriorityWeight      *int64 `json:"priority_weight"`
	WeightRule          string `json:"weight_rule"`
	Pool                string
	PoolSlots           int `json:"pool_slots"`
	MaxTIsDag           int `json:"max_active_tis_per_dag"`
	MaxTIsRun           int `json:"max_active_tis_per_dagrun"`
}

type vecMap struct {
	Args   []vecArg
	Kwargs string
}

type vecArg struct {
	Lit    *int
	From   string
	Zip    []string
	Fill   bool
	Concat []string
}

type vecGroup struct {
	ID, Parent string
	Map        *vecMap
}

type vecRun struct {
	ID, Type, State string
	Day             int
	LogicalDate     time.Time `json:"logical_date"`
	RunAfter        time.Time `json:"run_after"`
}

type vecStep struct {
	Start  []string
	Events []vecEvent
	Action *vecAction
	Result *vecResult
	Passes []vecPass
}

type vecEvent struct {
	TI, Do, State string
	Push          *int
	Follow        json.RawMessage
	Value         *bool
	Set           map[string]string
	XCom          *struct{ Followed, Skipped []string }
	MappedLength  *int `json:"mapped_length"`
}

type vecAction struct {
	Name              string
	TaskIDs           []json.RawMessage `json:"task_ids"`
	IncludeDownstream bool              `json:"include_downstream"`
	IncludeUpstream   bool              `json:"include_upstream"`
	OnlyFailed        bool              `json:"only_failed"`
	State, TaskID     string
	Task              string `json:"task_id"`
	Upstream          bool
	Downstream        bool
	MapIndexes        []int `json:"map_indexes"`
}

type vecResult struct {
	Set       map[string]string
	Run       string
	RunBefore string         `json:"run_before"`
	MaxTries  map[string]int `json:"max_tries"`
	Then      string
}

type vecPass struct {
	Of       string
	Schedule []string
	Set      map[string]string
	Gone     []string
	Run      string
}

type vecFinal struct {
	Run   string
	Tasks map[string]string
	Tries map[string]int
	Stuck bool
}

type vecRound struct {
	MaxTIs        int `json:"max_tis"`
	ExecutorSlots int `json:"executor_slots"`
	Queued        []string
	Started       []string
	ThenSuccess   []string `json:"then_success"`
}
