// Package regress runs PostgreSQL's own regression tests through pgpoold.
package regress
