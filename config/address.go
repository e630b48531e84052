package config

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// defaultPort is PgBouncer's listen_port; it names a Unix socket where no TCP
// address does.
const defaultPort = "6432"

// maxSocketPath is the size of sockaddr_un.sun_path less its zero byte.
const maxSocketPath = 107

// parseListenAddrs reads listen.addr. bad holds a sentence for each item that
// is wrong, by its index.
func parseListenAddrs(items []string) (addrs []Addr, bad map[int]string) {
	bad = map[int]string{}
	port := defaultPort
	for i := len(items) - 1; i >= 0; i-- { // the first TCP address is looked at last
		if _, p, err := net.SplitHostPort(items[i]); err == nil && p != "0" && !strings.HasPrefix(items[i], "unix:") {
			port = p
		}
	}
	for i, item := range items {
		if dir, found := strings.CutPrefix(item, "unix:"); found {
			path := strings.TrimSuffix(dir, "/") + "/.s.PGSQL." + port
			switch {
			case !strings.HasPrefix(dir, "/"):
				bad[i] = "a Unix socket's directory is absolute, as in unix:/run/pgpoold"
			case len(path) > maxSocketPath:
				bad[i] = "the socket's path would be longer than the system allows (107 bytes)"
			default:
				addrs = append(addrs, Addr{"unix", path})
			}
			continue
		}
		if reason := checkHostPort(item); reason != "" {
			bad[i] = reason
			continue
		}
		addrs = append(addrs, Addr{"tcp", item})
	}
	return addrs, bad
}

// checkHostPort says what is wrong with host:port, "" for nothing. Port 0 is
// any free port.
func checkHostPort(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		if _, err := strconv.ParseUint(addr, 10, 16); err == nil {
			return "it is a port alone, did you mean :" + addr + "?"
		}
		if strings.HasPrefix(addr, "/") {
			return "a Unix socket's directory is written unix:" + addr
		}
		return "it is not host:port, :port or unix:/dir (IPv6: [::1]:6432)"
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "its port is not a number from 0 to 65535"
	}
	if host == "*" {
		return "every interface is written :" + port
	}
	if strings.ContainsAny(host, " /@") {
		return "its host is not a name or an address"
	}
	return ""
}

// reaches reports whether a dial of host:port would surely arrive at the
// listener: compared by what is written, without asking the resolver.
func reaches(listener Addr, network, host string, port uint16) bool {
	if network == "unix" || listener.Network == "unix" {
		return network == listener.Network &&
			listener.Address == strings.TrimSuffix(host, "/")+"/.s.PGSQL."+strconv.Itoa(int(port))
	}
	listenHost, listenPort, err := net.SplitHostPort(listener.Address)
	if err != nil || listenPort != strconv.Itoa(int(port)) {
		return false
	}
	if isWildcard(listenHost) {
		return isLoopback(host)
	}
	if isLoopback(listenHost) && isLoopback(host) {
		return listenHost == host || listenHost == "localhost" || host == "localhost"
	}
	return strings.EqualFold(listenHost, host)
}

func isWildcard(host string) bool {
	if host == "" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsUnspecified()
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// isPublic reports whether a server's host can lie outside of the machine and
// of private networks, as far as its spelling tells.
func isPublic(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		return !ip.IsLoopback() && !ip.IsPrivate() && !ip.IsLinkLocalUnicast() && !ip.IsUnspecified()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if !strings.Contains(host, ".") { // localhost, a container's or a short name
		return false
	}
	for _, suffix := range []string{".internal", ".local", ".localhost", ".lan", ".home.arpa", ".svc", ".test"} {
		if strings.HasSuffix(host, suffix) {
			return false
		}
	}
	return true
}
