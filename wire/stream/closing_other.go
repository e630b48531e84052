//go:build !linux

package stream

// MaxClosing is how many descriptors wait to be closed at most: none does here.
const MaxClosing = 0

func (p *plug) closeSocket() { _ = p.nc.Close() }

// CloseDescriptors is for other systems.
func CloseDescriptors() int { return 0 }
