// Package dagdraw draws the graph of a DAG: as boxes and lines of text for a
// terminal, and as DOT, SVG and Mermaid documents. It is pure: a picture depends
// on the DAG alone, and the same DAG gives the same bytes.
package dagdraw
