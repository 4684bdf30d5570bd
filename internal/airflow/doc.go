// Package airflow holds the nouns of Airflow 3 as Gust stores and decides on
// them: DAGs, runs, task instances, pools, assets, states, rules and errors.
//
// It is the glossary: names are Airflow's, letter for letter, and so are the
// JSON forms. It imports the standard library only, reads no clock and does no
// I/O, so that the scheduling core, every store and every front end share it.
package airflow
