// Package sqlop has the operators of Airflow's common.sql provider that run in
// Go over database/sql. A binary that registers them also imports sqldrivers.
package sqlop
