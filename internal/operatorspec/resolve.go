package operatorspec

import "strings"

// legacy maps class paths of Airflow 2 to today's. Airflow 3 still imports
// those marked shim, with a deprecation warning; the others are gone there.
var legacy = map[string]struct {
	to   string
	shim bool
}{}

func init() {
	const std = "airflow.providers.standard."
	shim := func(oldModule, newModule string, names ...string) {
		for _, n := range names {
			legacy[oldModule+"."+n] = struct {
				to   string
				shim bool
			}{newModule + "." + n, true}
		}
	}
	gone := func(oldModule, newModule string, names ...string) {
		for _, n := range names {
			legacy[oldModule+"."+n] = struct {
				to   string
				shim bool
			}{newModule + "." + n, false}
		}
	}
	python := []string{"PythonOperator", "BranchPythonOperator", "ShortCircuitOperator", "PythonVirtualenvOperator", "ExternalPythonOperator",
		"BranchExternalPythonOperator", "BranchPythonVirtualenvOperator"}
	shim("airflow.operators.python", std+"operators.python", python...)
	shim("airflow.operators.bash", std+"operators.bash", "BashOperator")
	shim("airflow.operators.empty", std+"operators.empty", "EmptyOperator")
	shim("airflow.operators.datetime", std+"operators.datetime", "BranchDateTimeOperator")
	shim("airflow.operators.weekday", std+"operators.weekday", "BranchDayOfWeekOperator")
	shim("airflow.operators.trigger_dagrun", std+"operators.trigger_dagrun", "TriggerDagRunOperator")
	shim("airflow.operators.latest_only", std+"operators.latest_only", "LatestOnlyOperator")
	shim("airflow.operators.smooth", std+"operators.smooth", "SmoothOperator")
	shim("airflow.operators.generic_transfer", "airflow.providers.common.sql.operators.generic_transfer", "GenericTransfer")
	shim("airflow.operators.email", "airflow.providers.smtp.operators.smtp", "EmailOperator")
	shim("airflow.sensors.python", std+"sensors.python", "PythonSensor")
	shim("airflow.sensors.bash", std+"sensors.bash", "BashSensor")
	shim("airflow.sensors.date_time", std+"sensors.date_time", "DateTimeSensor", "DateTimeSensorAsync")
	shim("airflow.sensors.time_sensor", std+"sensors.time", "TimeSensor", "TimeSensorAsync")
	shim("airflow.sensors.weekday", std+"sensors.weekday", "DayOfWeekSensor")
	shim("airflow.sensors.time_delta", std+"sensors.time_delta", "TimeDeltaSensor", "TimeDeltaSensorAsync")
	shim("airflow.sensors.filesystem", std+"sensors.filesystem", "FileSensor")
	shim("airflow.sensors.external_task", std+"sensors.external_task", "ExternalTaskSensor", "ExternalTaskMarker")

	gone("airflow.operators.python_operator", std+"operators.python", python...)
	gone("airflow.operators.bash_operator", std+"operators.bash", "BashOperator")
	gone("airflow.operators.dummy_operator", std+"operators.empty", "EmptyOperator")
	gone("airflow.operators.branch_operator", "airflow.sdk.bases.branch", "BaseBranchOperator")
	gone("airflow.operators.dagrun_operator", std+"operators.trigger_dagrun", "TriggerDagRunOperator")
	gone("airflow.operators.latest_only_operator", std+"operators.latest_only", "LatestOnlyOperator")
	gone("airflow.operators.email_operator", "airflow.providers.smtp.operators.smtp", "EmailOperator")
	gone("airflow.sensors.external_task_sensor", std+"sensors.external_task", "ExternalTaskSensor", "ExternalTaskMarker")
	gone("airflow.sensors.date_time_sensor", std+"sensors.date_time", "DateTimeSensor")
	gone("airflow.sensors.time_delta_sensor", std+"sensors.time_delta", "TimeDeltaSensor")
	gone("airflow.sensors.weekday_sensor", std+"sensors.weekday", "DayOfWeekSensor")
	gone("airflow.sensors.bash_sensor", std+"sensors.bash", "BashSensor")
	gone("airflow.contrib.sensors.file_sensor", std+"sensors.filesystem", "FileSensor")
	gone("airflow.contrib.sensors.bash_sensor", std+"sensors.bash", "BashSensor")
	gone("airflow.contrib.sensors.python_sensor", std+"sensors.python", "PythonSensor")
	gone("airflow.operators.http_operator", "airflow.providers.http.operators.http", "HttpOperator")
	gone("airflow.sensors.http_sensor", "airflow.providers.http.sensors.http", "HttpSensor")
	gone("airflow.sensors.sql_sensor", "airflow.providers.common.sql.sensors.sql", "SqlSensor")
	gone("airflow.operators.sql", "airflow.providers.common.sql.operators.sql", "SQLCheckOperator", "SQLValueCheckOperator", "SQLIntervalCheckOperator",
		"SQLThresholdCheckOperator", "BranchSQLOperator")
	for _, m := range []string{"airflow.operators.dummy_operator", "airflow.operators.dummy"} {
		legacy[m+".DummyOperator"] = struct {
			to   string
			shim bool
		}{std + "operators.empty.EmptyOperator", false}
	}
	for _, m := range []string{"airflow.operators.http_operator", "airflow.providers.http.operators.http"} {
		legacy[m+".SimpleHttpOperator"] = struct {
			to   string
			shim bool
		}{"airflow.providers.http.operators.http.HttpOperator", false}
	}
}

// Spelling tells how a path names its class.
type Spelling int

// The spellings of a class path.
const (
	Current Spelling = iota // today's path
	Shim                    // an Airflow 2 path that Airflow 3 still imports
	Gone                    // an Airflow 2 path that Airflow 3 no longer imports
	Short                   // a class name without its module, or in snake case: bash, file_sensor
)

// Resolve returns the operator class that path names in any spelling.
func Resolve(path string) (*Spec, Spelling, bool) {
	if l, ok := legacy[path]; ok {
		if s, ok := Lookup(l.to); ok {
			if l.shim {
				return s, Shim, true
			}
			return s, Gone, true
		}
	}
	if s, ok := Lookup(path); ok && s.Decorator == "" {
		return s, Current, true
	}
	if !strings.Contains(path, ".") {
		if p := loadIndex().short[path]; p != "" {
			s, ok := Lookup(p)
			return s, Short, ok
		}
		if path == "DummyOperator" {
			s, ok := Lookup("airflow.providers.standard.operators.empty.EmptyOperator")
			return s, Short, ok
		}
		if p := bySnake(path); p != "" {
			s, ok := Lookup(p)
			return s, Short, ok
		}
	}
	return nil, Current, false
}

// bySnake finds the class of a name in snake case, with or without "_operator",
// "" if there is none or several.
func bySnake(name string) string {
	for _, r := range name {
		if !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_') {
			return ""
		}
	}
	return loadIndex().snake[strings.ReplaceAll(name, "_", "")]
}

// taskPaths are the paths at which Airflow exposes the @task object.
var taskPaths = map[string]Spelling{
	"airflow.sdk.task": Current, "airflow.sdk.definitions.decorators.task": Current,
	"airflow.decorators.task": Shim,
}

// ResolveDecorator returns the operator class that a TaskFlow decorator makes.
// Attribute is true for paths such as airflow.sdk.task.branch: an attribute of
// an object, which Python code can use but Airflow cannot import by path.
func ResolveDecorator(path string) (s *Spec, spelling Spelling, attribute, ok bool) {
	ix := loadIndex()
	byName := func(name string) (*Spec, bool) {
		d, ok := Lookup(ix.decorators[name])
		if !ok {
			return nil, false
		}
		return Lookup(d.Operator)
	}
	if sp, ok := taskPaths[path]; ok {
		s, ok := byName("python")
		return s, sp, false, ok
	}
	if path == "task" || path == "@task" {
		s, ok := byName("python")
		return s, Short, false, ok
	}
	for prefix := range taskPaths {
		if name, found := strings.CutPrefix(path, prefix+"."); found {
			s, ok := byName(name)
			return s, Current, true, ok
		}
	}
	for _, prefix := range []string{"task.", "@task."} {
		if name, found := strings.CutPrefix(path, prefix); found {
			s, ok := byName(name)
			return s, Short, true, ok
		}
	}
	if d, found := Lookup(path); found && d.Decorator != "" {
		s, ok := Lookup(d.Operator)
		return s, Current, false, ok
	}
	return nil, Current, false, false
}

// Suggest returns the known class path most like path, or "".
func Suggest(path string) string {
	module, name := splitPath(path)
	best, score := "", 4
	for _, c := range Classes() {
		m, n := splitPath(c)
		if strings.HasPrefix(n, "_") {
			continue
		}
		d := Distance(name, n)
		if d > 0 {
			d++ // an equal class name in another module beats a misspelt one
		}
		if m != module {
			d++
		}
		if d < score {
			best, score = c, d
		}
	}
	return best
}

// Nearest returns the candidate most like word, or "" if none is close.
func Nearest(word string, candidates []string) string {
	best, score := "", 3
	if len(word) <= 4 {
		score = 2
	}
	for _, c := range candidates {
		if d := Distance(word, c); d < score {
			best, score = c, d
		}
	}
	return best
}

// Distance is the Levenshtein distance between a and b, counting a swap of
// neighbours as one; values above 4 are not told apart.
func Distance(a, b string) int {
	if d := len(a) - len(b); d > 4 || d < -4 {
		return 5
	}
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return min(prev[len(b)], 5)
}
