package airflow

import (
	"fmt"
	"regexp"
	"strconv"
	"unicode/utf8"
)

// The identifiers are distinct types so that one cannot stand in for another.
type (
	// DagID names a DAG: ASCII letters, digits, '-', '.', '_', at most 250 characters.
	DagID string
	// RunID names a DagRun within its DAG.
	RunID string
	// TaskID names a task within its DAG, including the prefix of its task groups.
	TaskID string
	// GroupID names a task group; the root group is "".
	GroupID string
)

// Unmapped is the map_index of a task instance that is not mapped, not yet
// expanded, or expanded to nothing.
const Unmapped = -1

// TaskInstanceKey identifies a task instance.
type TaskInstanceKey struct {
	DagID    DagID  `json:"dag_id"`
	RunID    RunID  `json:"run_id"`
	TaskID   TaskID `json:"task_id"`
	MapIndex int    `json:"map_index"`
}

// String returns dag/run/task, with [map_index] when mapped.
func (k TaskInstanceKey) String() string {
	return string(k.DagID) + "/" + string(k.RunID) + "/" + TIName(k.TaskID, k.MapIndex)
}

// TIName returns the short name of an instance within its run: "a" or "a[2]".
func TIName(task TaskID, mapIndex int) string {
	if mapIndex == Unmapped {
		return string(task)
	}
	return string(task) + "[" + strconv.Itoa(mapIndex) + "]"
}

var (
	idPattern    = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)
	runIDPattern = regexp.MustCompile(`^[A-Za-z0-9_.~:+-]+$`)
)

// MaxIDLength is the longest dag_id, task_id, run_id, group_id, variable or
// pool name, in characters (Airflow's column width).
const MaxIDLength = 250

// CheckID reports why s cannot be a dag_id, task_id or group_id; what names the
// kind in the message.
func CheckID(what, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("%s is empty: expected 1 to %d characters of A-Z a-z 0-9 - . _", what, MaxIDLength)
	case utf8.RuneCountInString(s) > MaxIDLength:
		return fmt.Errorf("%s %q has %d characters: at most %d are allowed", what, s[:32]+"…", utf8.RuneCountInString(s), MaxIDLength)
	case !idPattern.MatchString(s):
		return fmt.Errorf("%s %q has a character outside A-Z a-z 0-9 - . _", what, s)
	}
	return nil
}

// CheckRunID reports why s cannot be a run_id given by a user
// ([scheduler] allowed_run_id_pattern).
func CheckRunID(s string) error {
	if s == "" || utf8.RuneCountInString(s) > MaxIDLength || !runIDPattern.MatchString(s) {
		return fmt.Errorf("run_id %q: expected 1 to %d characters of A-Z a-z 0-9 _ . ~ : + -", s, MaxIDLength)
	}
	return nil
}
