// Package house holds the rules of the house as tests: which room may import
// which, how big a file may grow, what no tracked file may say. A rule that
// stands in the way is changed here, with its reason, in a commit of its own.
package house
