package tasklog

import "time"

// Level is the level of a log record, by Airflow's names.
type Level string

// The levels.
const (
	LevelDebug    Level = "debug"
	LevelInfo     Level = "info"
	LevelWarning  Level = "warning"
	LevelError    Level = "error"
	LevelCritical Level = "critical"
)

// Record is one line of a task's log.
type Record struct {
	Time   time.Time
	Level  Level
	Logger string // e.g. task.stdout
	Event  string // the text; may have several lines
}

// Sink takes the records of one dispatch. It must be safe for concurrent use.
type Sink interface {
	// WriteRecord stores a record. Errors do not stop the task.
	WriteRecord(r Record) error
	// Close is called once, after the last record and before the report.
	Close() error
}
