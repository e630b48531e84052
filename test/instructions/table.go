package main

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// What plugin/count.c lays out.
const (
	maxCalls  = 512
	maxBlocks = 1 << 18
	blockSize = 4 * 8
)

// The numbers of some system calls on x86-64, which is what is emulated.
const (
	callClockGettime = 228
	callEpollPwait   = 281
)

// reading are read, readv, recvfrom and recvmsg; writing are their counterparts.
var (
	reading = []int{0, 19, 45, 47}
	writing = []int{1, 20, 44, 46}
)

// counts is what a process has done so far, or between two readings.
type counts struct {
	functions []uint64 // instructions, by index in symbols
	runs      map[span]uint64
	calls     [maxCalls]uint64
}

// span is a piece of code that runs from its begin to its end.
type span struct{ pc, bytes uint64 }

// cacheLine is how much code the processor fetches at once.
const cacheLine = 64

// lines is how many cache lines of code are in what ran as often as that: where each
// runs once, they cost more than the instructions do.
func (c *counts) lines(often uint64) int {
	seen := map[uint64]bool{}
	for s, runs := range c.runs {
		if runs >= often {
			for at := s.pc / cacheLine; at <= (s.pc+s.bytes-1)/cacheLine; at++ {
				seen[at] = true
			}
		}
	}
	return len(seen)
}

// readCounts reads the plugin's file while the process goes on.
func readCounts(file string, syms *symbols) (*counts, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, 8+8*maxCalls)
	if _, err := f.ReadAt(head, 0); err != nil {
		return nil, err
	}
	used := binary.NativeEndian.Uint64(head)
	if used > maxBlocks {
		return nil, errors.New("more blocks than there is room for")
	}
	c := &counts{functions: make([]uint64, len(syms.names)), runs: map[span]uint64{}}
	for i := range c.calls {
		c.calls[i] = binary.NativeEndian.Uint64(head[8+8*i:])
	}
	blocks := make([]byte, used*blockSize)
	if _, err := f.ReadAt(blocks, int64(len(head))); err != nil {
		return nil, err
	}
	for ; len(blocks) > 0; blocks = blocks[blockSize:] {
		var of [4]uint64 // as plugin/count.c has them
		for i := range of {
			of[i] = binary.NativeEndian.Uint64(blocks[8*i:])
		}
		pc, bytes, n, runs := of[0], of[1], of[2], of[3]
		c.functions[syms.at(pc)] += n * runs
		c.runs[span{pc, bytes}] += runs
	}
	return c, nil
}

// since is what was done after an earlier reading.
func (c *counts) since(earlier *counts) *counts {
	d := &counts{functions: slices.Clone(c.functions), runs: maps.Clone(c.runs)}
	for s, n := range earlier.runs {
		d.runs[s] -= n
	}
	for i, n := range earlier.functions {
		d.functions[i] -= n
	}
	for i := range d.calls {
		d.calls[i] = c.calls[i] - earlier.calls[i]
	}
	return d
}

func (c *counts) sum() (sum uint64) {
	for _, n := range c.functions {
		sum += n
	}
	return sum
}

// symbols are a program's functions in the order of their addresses. The
// first stands for what is in front of all others.
type symbols struct {
	starts []uint64
	names  []string
}

func readSymbols(program string) (*symbols, error) {
	f, err := elf.Open(program)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	all = slices.DeleteFunc(all, func(s elf.Symbol) bool { return elf.ST_TYPE(s.Info) != elf.STT_FUNC })
	slices.SortFunc(all, func(a, b elf.Symbol) int {
		if a.Value != b.Value {
			if a.Value < b.Value {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	s := &symbols{starts: []uint64{0}, names: []string{"?"}}
	for _, sym := range all {
		s.starts, s.names = append(s.starts, sym.Value), append(s.names, sym.Name)
	}
	return s, nil
}

// at is the index of the function that holds an address.
func (s *symbols) at(pc uint64) int {
	i, found := slices.BinarySearch(s.starts, pc)
	if !found {
		i--
	}
	return i
}
