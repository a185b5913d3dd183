# driver.sh: lets the Vulkan loader find the CPU driver that setup unpacked for want of root. Sourced from anywhere.
driver=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.deps/dawn/usr/share/vulkan/icd.d/lvp_icd.json
[ ! -e "$driver" ] || export VK_ADD_DRIVER_FILES=$driver
