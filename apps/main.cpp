// main.cpp: the mainspring program.
#include <fmt/format.h>

#include "mainspring.hpp"

int main() { fmt::print("mainspring {}\n", ms::version()); }
